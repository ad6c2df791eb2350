"""Signals: soon, with everything kept, told truly; and SIGKILL, after which the run is dead."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from written import manifest_of, numbers_of

from rkkd_cli.records.run_directory import RunDirectory

Program = Callable[..., subprocess.CompletedProcess[str]]
Ended = subprocess.CompletedProcess[str]
FolderMaker = Callable[..., Path]
Condition = Callable[[Path], bool]

SMALL = (
    "dataset.limit_train=200", "dataset.limit_test=100", "teacher.training.epochs=2",
    "--device", "cpu", "--seeds", "0",
)  # fmt: skip
RUN = ("run", *SMALL, "--epochs", "12", "-q")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def rows(count: int) -> Condition:
    def seen(run: Path) -> bool:
        metrics = run / "metrics.csv"
        return metrics.is_file() and metrics.read_bytes().count(b"\n") > count

    return seen


def wait_for(run: Path, seen: Condition) -> None:
    deadline = time.monotonic() + 60
    while not seen(run):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def signalled(
    program: Program, run: Path, seen: Condition, numbers: tuple[int, ...], *words: str
) -> tuple[Ended, float]:
    """Run the program and send it signals, half a second apart, once ``seen``.

    Returns how it ended, and the seconds that this took after the last signal.
    """
    sent = 0.0

    def send() -> None:
        nonlocal sent
        wait_for(run, seen)
        process = manifest_of(run)["process"]
        for number in numbers:
            time.sleep(0.5 if sent else 0)
            assert manifest_of(run)["status"] == "running"
            sent = time.monotonic()
            os.kill(process, number)

    sender = threading.Thread(target=send)
    sender.start()
    result = program(*words, cwd=run.parents[1])
    sender.join()
    return result, time.monotonic() - sent


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> list[str]:
    """The numbers of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    result = warm_rkkd(*RUN, "--name", "x", cwd=folder)
    assert result.returncode == 0, result.stderr
    return numbers_of(folder / "results" / "x")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_interrupts_the_run_soon_and_resume_gives_the_same_numbers(
    number: int, status: int, whole: list[str], warm_rkkd: Program, tmp_path: Path
) -> None:
    run = tmp_path / "results" / "x"
    result, seconds = signalled(warm_rkkd, run, rows(4), (number,), *RUN, "--name", "x")
    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr == "rkkd: interrupted; `rkkd resume x` goes on\n"
    assert seconds < 10
    manifest = manifest_of(run)
    assert (manifest["status"], manifest["process"]) == ("interrupted", None)
    assert manifest["started"] < manifest["ended"]
    listed = warm_rkkd("ls", "runs", cwd=tmp_path).stdout.splitlines()[1]
    assert listed.split()[:2] == ["x", "interrupted"]
    shown = warm_rkkd("show", "x", cwd=tmp_path).stdout.splitlines()[0]
    assert "interrupted" in shown
    assert "`rkkd resume x` goes on" in shown
    resumed = warm_rkkd("resume", "x", "-q", cwd=tmp_path)
    assert (resumed.returncode, numbers_of(run)) == (0, whole), resumed.stderr


def test_a_signal_within_an_epoch_loses_no_step(warm_rkkd: Program, tmp_path: Path) -> None:
    def second_epoch(run: Path) -> bool:
        if not rows(2)(run):
            return False
        time.sleep(0.03)
        return True

    words = ("run", *SMALL, "--epochs", "2", "--batch-size", "4", "-q")
    run, other = tmp_path / "results" / "x", tmp_path / "results" / "whole"
    result, _ = signalled(warm_rkkd, run, second_epoch, (signal.SIGTERM,), *words, "--name", "x")
    assert result.returncode == 143
    assert len(numbers_of(run)) == 3  # of 5: the second epoch has begun
    resumed = warm_rkkd("resume", "x", cwd=tmp_path)
    assert "50 batches, going on after epoch 1 and " in resumed.stderr
    assert warm_rkkd(*words, "--name", "whole", cwd=tmp_path).returncode == 0
    assert numbers_of(run) == numbers_of(other)


def test_a_signal_while_the_teacher_is_trained_keeps_what_it_has_learnt(
    warm_rkkd: Program, cache: Path, tmp_path: Path
) -> None:
    def teacher_in_training(_: Path) -> bool:
        return len(list(cache.glob("teachers/*/training/*.pt"))) == 2

    run, recipe = tmp_path / "results" / "x", ("teacher.training.epochs=6", "teacher.seed=5")
    words = ("run", *SMALL[:2], *SMALL[3:], *recipe, "--epochs", "2")
    numbers = (signal.SIGTERM,)
    result, seconds = signalled(warm_rkkd, run, teacher_in_training, numbers, *words, "--name", "x")
    assert result.returncode == 143
    assert seconds < 10
    assert manifest_of(run)["status"] == "interrupted"
    assert warm_rkkd("show", "x", cwd=tmp_path).returncode == 0
    resumed = warm_rkkd("resume", "x", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "training the teacher digits_teacher on after epoch 2" in resumed.stderr
    elsewhere = {"RKKD_CACHE": str(tmp_path / "cache")}
    assert warm_rkkd(*words, "--name", "whole", cwd=tmp_path, env=elsewhere).returncode == 0
    whole = tmp_path / "results" / "whole"
    assert numbers_of(run) == numbers_of(whole)
    assert manifest_of(run)["teachers"][0]["sha256"] == manifest_of(whole)["teachers"][0]["sha256"]


LONG_STEPS = (
    "run", "--dataset", "folder", "--device", "cpu", "--seeds", "0", "--student", "ResNet18",
    "--teacher", "digits_teacher", "teacher.training.epochs=1", "--rank-grad", "off", "--name", "x",
)  # fmt: skip


def in_the_second_step(run: Path) -> bool:
    if not any(run.glob("checkpoints/seed-0-kd/*.pt")):
        return False
    time.sleep(0.5)
    return True


def in_the_first_step(run: Path) -> bool:
    if not (run / "manifest.json").is_file() or not manifest_of(run)["teachers"]:
        return False
    time.sleep(4)
    return True


@pytest.mark.parametrize(
    ("batch", "seen", "numbers", "seconds"),
    [
        (100, in_the_second_step, (signal.SIGINT, signal.SIGINT), (0, 3)),
        pytest.param(
            400, in_the_first_step, (signal.SIGTERM,), (7, 10), marks=pytest.mark.slow
        ),
    ],
)  # fmt: skip
def test_a_long_step_is_given_up_at_a_second_signal_or_in_ten_seconds(
    batch: int,
    seen: Condition,
    numbers: tuple[int, ...],
    seconds: tuple[int, int],
    make_folder: FolderMaker,
    warm_rkkd: Program,
    tmp_path: Path,
) -> None:
    root, run = make_folder(classes=2, train=200, size=32), tmp_path / "results" / "x"
    words = ("--data-root", root.name, "--batch-size", str(batch), "--checkpoint-minutes", "0")
    result, took = signalled(warm_rkkd, run, seen, numbers, *LONG_STEPS, *words)
    assert result.returncode == 128 + numbers[0]
    assert seconds[0] <= took < seconds[1]
    assert "interrupted" in result.stderr.splitlines()[-1]
    assert manifest_of(run)["status"] == "interrupted"


def status_told(program: Program, run: Path) -> set[str]:
    """What `ls runs`, `show` and `show --json` tell of a run."""
    folder = run.parents[1]
    listed = program("ls", "runs", cwd=folder).stdout.splitlines()[1].split()[1]
    shown = program("show", "x", cwd=folder).stdout.splitlines()[0].split(": ")[1].split(",")[0]
    as_json = json.loads(program("show", "x", "--json", cwd=folder).stdout)["status"]
    return {listed, shown, as_json}


def test_a_killed_run_is_told_as_dead_and_its_lock_is_free(
    whole: list[str], warm_rkkd: Program, tmp_path: Path
) -> None:
    run = tmp_path / "results" / "x"
    result, _ = signalled(warm_rkkd, run, rows(4), (signal.SIGKILL,), *RUN, "--name", "x")
    assert result.returncode == -signal.SIGKILL
    assert manifest_of(run)["status"] == "running"
    assert status_told(warm_rkkd, run) == {"dead"}
    assert "`rkkd resume x` goes on" in warm_rkkd("show", cwd=tmp_path).stdout
    copy = Path(shutil.copytree(run, tmp_path / "elsewhere" / "x"))
    (copy / ".lock").unlink()
    assert RunDirectory(copy).status(RunDirectory(copy).read_manifest()) == "dead"
    resumed = warm_rkkd("resume", "x", cwd=tmp_path)
    assert (resumed.returncode, numbers_of(run)) == (0, whole), resumed.stderr
