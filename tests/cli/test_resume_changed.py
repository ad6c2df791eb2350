"""Resume with something changed: refused with its name, unless it moves no number of the past.

The experiment, the images, the teacher.
"""

import shutil
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image
from running import (
    TWELVE,
    FolderMaker,
    Program,
    has_checkpoint,
    has_rows,
    quick,
    refused,
    signalled,
    succeeded,
)
from written import content_below, manifest_of, numbers_of

from rkkd_cli.models import build_model

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


CONSTANT = (
    "run", *quick("device=cpu", "training.schedule=constant", without="training.epochs"), "--quiet",
)  # fmt: skip


def epochs_of(kd: int, kd_rank: int) -> tuple[str, str]:
    return f"arms.kd.training.epochs={kd}", f"arms.kd_rank.training.epochs={kd_rank}"


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
    refused(warm_rkkd(command, *name, *rest, cwd=tmp_path), *named)
    assert content_below(tmp_path) == before


def test_auto_compares_with_its_own_command_line_not_with_the_record(
    stopped: Path, warm_rkkd: Program, tmp_path: Path
) -> None:
    result = warm_rkkd("run", "--name", "stopped", "--resume", "auto", cwd=tmp_path)
    refused(result, "dataset.limit_train (200 → none)")


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
    refused(warm_rkkd("resume", "stopped", cwd=tmp_path), named)


def test_title_notes_device_and_the_order_of_arms_may_change(
    stopped: Path, warm_rkkd: Program, tmp_path: Path
) -> None:
    record, begun = stopped / "experiment.toml", numbers_of(stopped)
    kd, kd_rank = "[arms.kd.rank]\ngrad = false\n", "[arms.kd_rank.rank]\ngrad = true\n"
    text = record.read_text(encoding="utf-8").replace(kd, "").replace(kd_rank, kd_rank + "\n" + kd)
    assert text.index("[arms.kd_rank") < text.index("[arms.kd.")
    record.write_text(text.replace('device = "cpu"', 'device = "auto"'), encoding="utf-8")
    words = ("title=Another", "notes=Nothing", "--device", "cpu", "-q")
    succeeded(warm_rkkd("resume", "stopped", *words, cwd=tmp_path))
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
        result = succeeded(warm_rkkd(*words, cwd=tmp_path))
        if words[0] == "resume":
            assert "training.epochs (2 → 4)" in result.stderr
    assert numbers_of(results / "short") == numbers_of(results / "long")
    assert manifest_of(results / "short")["status"] == "finished"


def test_more_epochs_are_refused_where_one_arm_has_a_cosine_schedule(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    run = tmp_path / "results" / "cosine"
    words = ("training.epochs=40", "arms.kd_rank.training.schedule=cosine", "--name", "cosine")
    signalled(warm_rkkd, run, has_rows(run, 2), *CONSTANT, *words)
    before = content_below(tmp_path)
    result = warm_rkkd("resume", "cosine", "--epochs", "41", cwd=tmp_path)
    refused(result, "arm kd_rank", "cosine")
    assert content_below(tmp_path) == before


def keys_of(run: Path) -> list[tuple[str, ...]]:
    return sorted(tuple(row.split(",")[:3]) for row in numbers_of(run)[1:])


def test_an_arm_that_leaves_its_stream_by_more_epochs_has_no_row_twice(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    run = tmp_path / "results" / "apart"
    succeeded(warm_rkkd(*CONSTANT, *epochs_of(1, 1), "--name", "apart", cwd=tmp_path))
    result = warm_rkkd("resume", "apart", epochs_of(1, 3)[1], cwd=tmp_path)
    one = [("kd", "0", "1"), ("kd_rank", "0", "1")]
    if result.returncode == 0:
        assert keys_of(run) == [*one, ("kd_rank", "0", "2"), ("kd_rank", "0", "3")]
    else:
        refused(result, "training.epochs")
        assert keys_of(run) == one


def test_an_arm_that_joins_a_stream_by_more_epochs_is_not_lost(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    run = tmp_path / "results" / "joined"
    words = (*CONSTANT, *epochs_of(19, 20), "--name", "joined")
    signalled(warm_rkkd, run, has_rows(run, 3), *words)  # kd_rank has not begun
    result = warm_rkkd("resume", "joined", epochs_of(20, 20)[0], "-q", cwd=tmp_path)
    if result.returncode == 0:
        wanted = [(arm, "0", str(epoch)) for arm in ("kd", "kd_rank") for epoch in range(1, 21)]
        assert keys_of(run) == sorted(wanted)
    else:
        refused(result, "training.epochs")


def on_images(root: Path) -> tuple[str, ...]:
    """Return the words of a run on an image folder."""
    recipe = ("teacher.training.epochs=2", "seeds=[0]", "device=cpu", "--quiet")
    return ("run", "--dataset", "folder", "--data-root", root.name, *recipe)


def repaint(root: Path) -> bytes:
    """Change one training image; return what it was."""
    path = root / "train" / "class001" / "0.png"
    content = path.read_bytes()
    Image.new("RGB", (8, 8), "red").save(path)
    return content


def test_changed_images_are_refused_before_a_teacher_is_trained_on_them(
    make_folder: FolderMaker, warm_rkkd: Program, cache: Path, tmp_path: Path
) -> None:
    root, run = make_folder(size=8), tmp_path / "results" / "images"
    words = (*on_images(root), "training.epochs=200", "--name", "images")
    signalled(warm_rkkd, run, has_rows(run, 4), *words)
    record, teachers = manifest_of(run), set((cache / "teachers").iterdir())
    repaint(root)
    result = warm_rkkd("resume", "images", "-q", cwd=tmp_path)
    refused(result, "the images of folder are not those that the run began with")
    after = manifest_of(run)
    assert (after["datasets"], after["teachers"]) == (record["datasets"], record["teachers"])
    assert set((cache / "teachers").iterdir()) == teachers


def test_changed_images_are_refused_also_where_only_later_arms_would_see_them(
    make_folder: FolderMaker, warm_rkkd: Program, tmp_path: Path
) -> None:
    root, run = make_folder(size=8, train=80), tmp_path / "results" / "later"
    words = (*on_images(root), "training.epochs=1", "arms.kd_rank.training.batch_size=1")
    words = (*words, "--name", "later")
    signalled(warm_rkkd, run, has_checkpoint(run), *words, number=signal.SIGKILL)
    assert not has_checkpoint(run, stream="seed-0-kd_rank")()
    repaint(root)
    refused(warm_rkkd("resume", "later", "-q", cwd=tmp_path), "images")


def test_a_replaced_teacher_file_is_refused_and_leaves_no_trace_in_the_manifest(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    for seed, name in enumerate(("first.pt", "second.pt")):
        torch.manual_seed(seed)
        torch.save(build_model("digits_teacher", 10, 1).state_dict(), tmp_path / name)
    run, used = tmp_path / "results" / "taught", tmp_path / "teacher.pt"
    shutil.copy(tmp_path / "first.pt", used)
    words = ("run", *TWELVE, "-q", "--teacher-checkpoint", used.name, "--name", "taught")
    signalled(warm_rkkd, run, has_rows(run, 2), *words)
    teachers = manifest_of(run)["teachers"]
    shutil.copy(tmp_path / "second.pt", used)
    result = warm_rkkd("resume", "taught", "-q", cwd=tmp_path)
    refused(result, "the teacher digits_teacher is not the one that the run began with")
    assert manifest_of(run)["teachers"] == teachers
    shutil.copy(tmp_path / "first.pt", used)
    succeeded(warm_rkkd("resume", "taught", "-q", cwd=tmp_path))
