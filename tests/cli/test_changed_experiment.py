"""Resume with something changed: refused with its name, unless it moves no number of the past."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from written import manifest_of, numbers_of

Program = Callable[..., subprocess.CompletedProcess[str]]

SMALL = (
    "dataset.limit_train=200", "dataset.limit_test=100", "teacher.training.epochs=2",
    "--device", "cpu", "--seeds", "0",
)  # fmt: skip
RUN = (*SMALL, "--epochs", "12", "-q")
THREE_SCHEDULES = """
seeds = [0]
threads = 1
student = { model = "digits_student" }
dataset = { name = "digits", limit_train = 200, limit_test = 100 }
teacher = { model = "digits_teacher", training = { epochs = 2, lr = 0.05 } }
training = { epochs = 2, lr = 0.02, schedule = "constant", warmup_epochs = 1.5 }
[arms.constant]
rank.grad = true
[arms.step]
training = { schedule = "step", milestones = [1, 3.0] }
"""
OWN_EPOCHS = ("arms.kd.training.epochs={}", "arms.kd_rank.training.epochs={}")
CONSTANT = (*SMALL, "-q", "training.schedule=constant")


def content_below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def epochs_arms(kd: int, kd_rank: int) -> tuple[str, str]:
    return OWN_EPOCHS[0].format(kd), OWN_EPOCHS[1].format(kd_rank)


def stopped_when(
    seen: Callable[[], bool], number: int, program: Program, run: Path, *arguments: str
) -> None:
    """Run the program, and send it the signal once ``seen()``."""

    def stop() -> None:
        deadline = time.monotonic() + 60
        while not seen() and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(manifest_of(run)["process"], number)

    watcher = threading.Thread(target=stop)
    watcher.start()
    result = program("run", *arguments, "--name", run.name, cwd=run.parents[1])
    watcher.join()
    expected = -number if number == signal.SIGKILL else 128 + number
    assert result.returncode == expected, result.stderr


def rows(run: Path, count: int) -> Callable[[], bool]:
    metrics = run / "metrics.csv"
    return lambda: metrics.is_file() and metrics.read_bytes().count(b"\n") > count


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> Path:
    run = tmp_path_factory.mktemp("anywhere") / "results" / "stopped"
    stopped_when(rows(run, 4), signal.SIGTERM, warm_rkkd, run, *RUN)
    return run


@pytest.fixture
def stopped(original: Path, tmp_path: Path) -> Path:
    """A run of its own for each test: the preset digits, small, interrupted early."""
    return Path(shutil.copytree(original, tmp_path / "results" / "stopped"))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("run", "--lr", "0.5"), ["training.lr (0.02 → 0.5)"]),
        (("run", "training.weight_decay=0.1"), ["training.weight_decay (0.0005 → 0.1)"]),
        (
            ("run", "--alpha", "0.5", "--temperature", "2", "--precision", "bf16"),
            ["method.alpha (0.9 → 0.5)", "method.temperature (4.0 → 2.0)", "precision"],
        ),
        (("run", "--seeds", "0:2"), ["seeds ([0] → [0, 1])"]),
        (("run", "--rank-grad", "on"), ["arms.kd "]),
        (("run", "arms.more.rank.grad=true"), ["arms.more "]),
        (("run", "arms.kd.method.alpha=0.1"), ["arms.kd.method.alpha (none → 0.1)"]),
        (("run", "threads=2"), ["threads (1 → 2)"]),
        (("run", "teacher.training.epochs=3"), ["teacher.training.epochs (2 → 3)"]),
        (("run", "--epochs", "11"), ["training.epochs (12 → 11)"]),
        (("run", "--epochs", "13", "--lr", "1"), ["training.lr"]),
        (("run", "--epochs", "13"), ["training.epochs", "milestones"]),
        (
            ("run", "rank_grad"),
            ["dataset.limit_train", "dataset.limit_test", "teacher.training.epochs", "seeds"],
        ),
        (("run", "rank_grad_cifar100"), ["dataset.name", "teacher.model", "student.model"]),
        (("resume", "rank.steepness=1.0"), ["rank.steepness (5.0 → 1.0)"]),
        (("resume", "--epochs", "11"), ["training.epochs (12 → 11)"]),
    ],
)
def test_another_experiment_is_refused_with_every_key_named_and_changes_nothing(
    words: tuple[str, ...], named: list[str], stopped: Path, warm_rkkd: Program, tmp_path: Path
) -> None:
    before = content_below(tmp_path)
    command, *rest = words
    name = ("--resume", "stopped") if command == "run" else ("stopped",)
    result = warm_rkkd(command, *name, *rest, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    (sentence,) = result.stderr.splitlines()
    assert all(part in sentence for part in named), sentence
    assert content_below(tmp_path) == before


def test_auto_compares_with_its_own_command_line_not_with_the_record(
    stopped: Path, warm_rkkd: Program, tmp_path: Path
) -> None:
    result = warm_rkkd("run", "--name", "stopped", "--resume", "auto", cwd=tmp_path)
    assert result.returncode == 2
    assert "dataset.limit_train (200 → none)" in result.stderr


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("lr = 0.02", "lr = 0.5", "training.lr (0.02 → 0.5)"),
        ("[arms.kd.rank]\ngrad = false", "", "arms.kd "),
        ("[arms.kd.rank]", "[arms.other.rank]\ngrad = true\n[arms.kd.rank]", "arms.other "),
        ("epochs = 12", "epochs = 11", "training.epochs (12 → 11)"),
    ],
)
def test_a_record_edited_by_hand_is_refused_with_the_key_named(
    old: str, new: str, named: str, stopped: Path, warm_rkkd: Program, tmp_path: Path
) -> None:
    record = stopped / "experiment.toml"
    text = record.read_text(encoding="utf-8")
    assert text.count(old) == 1
    record.write_text(text.replace(old, new), encoding="utf-8")
    result = warm_rkkd("resume", "stopped", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert named in result.stderr


def test_title_notes_device_and_the_order_of_arms_may_change(
    stopped: Path, warm_rkkd: Program, tmp_path: Path
) -> None:
    record, begun = stopped / "experiment.toml", numbers_of(stopped)
    kd, kd_rank = "[arms.kd.rank]\ngrad = false\n", "[arms.kd_rank.rank]\ngrad = true\n"
    text = record.read_text(encoding="utf-8").replace(kd, "").replace(kd_rank, kd_rank + "\n" + kd)
    assert text.index("[arms.kd_rank") < text.index("[arms.kd.")
    record.write_text(text.replace('device = "cpu"', 'device = "auto"'), encoding="utf-8")
    words = ("title=Another", "notes=Nothing", "--device", "cpu", "-q")
    result = warm_rkkd("resume", "stopped", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert numbers_of(stopped)[: len(begun)] == begun
    assert [row.split(",")[0] for row in numbers_of(stopped)[1:]] == ["kd", "kd_rank"] * 12


def test_more_epochs_give_the_rows_of_a_run_begun_with_so_many(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    preset = tmp_path / "three.toml"
    preset.write_text(THREE_SCHEDULES, encoding="utf-8")
    results = tmp_path / "results"
    for words in (
        ("run", "three.toml", "--name", "short", "-q"),
        ("resume", "short", "--epochs", "4"),
        ("run", "three.toml", "--name", "long", "-q", "--epochs", "4"),
    ):
        result = warm_rkkd(*words, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        if words[0] == "resume":
            assert "training.epochs (2 → 4)" in result.stderr
    assert numbers_of(results / "short") == numbers_of(results / "long")
    assert manifest_of(results / "short")["status"] == "finished"


def test_more_epochs_are_refused_where_one_arm_has_a_cosine_schedule(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    run = tmp_path / "results" / "cosine"
    words = (*CONSTANT, "--epochs", "40", "arms.kd_rank.training.schedule=cosine")
    stopped_when(rows(run, 2), signal.SIGTERM, warm_rkkd, run, *words)
    before = content_below(tmp_path)
    result = warm_rkkd("resume", "cosine", "--epochs", "41", cwd=tmp_path)
    assert result.returncode == 2
    assert "arm kd_rank" in result.stderr
    assert "cosine" in result.stderr
    assert content_below(tmp_path) == before


def keys_of(run: Path) -> list[tuple[str, ...]]:
    return sorted(tuple(row.split(",")[:3]) for row in numbers_of(run)[1:])


def test_an_arm_that_leaves_its_stream_by_more_epochs_has_no_row_twice(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    run = tmp_path / "results" / "apart"
    first = warm_rkkd("run", *CONSTANT, *epochs_arms(1, 1), "--name", "apart", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    result = warm_rkkd("resume", "apart", epochs_arms(1, 3)[1], cwd=tmp_path)
    one = [("kd", "0", "1"), ("kd_rank", "0", "1")]
    if result.returncode == 0:
        assert keys_of(run) == [*one, ("kd_rank", "0", "2"), ("kd_rank", "0", "3")]
    else:
        assert result.returncode == 2, result.stderr
        assert "training.epochs" in result.stderr
        assert keys_of(run) == one


def test_an_arm_that_joins_a_stream_by_more_epochs_is_not_lost(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    run = tmp_path / "results" / "joined"
    words = (*CONSTANT, *epochs_arms(19, 20))
    stopped_when(rows(run, 3), signal.SIGTERM, warm_rkkd, run, *words)  # kd_rank has not begun
    result = warm_rkkd("resume", "joined", epochs_arms(20, 20)[0], "-q", cwd=tmp_path)
    if result.returncode == 0:
        wanted = [(arm, "0", str(epoch)) for arm in ("kd", "kd_rank") for epoch in range(1, 21)]
        assert keys_of(run) == sorted(wanted)
    else:
        assert result.returncode == 2, result.stderr
        assert "training.epochs" in result.stderr
