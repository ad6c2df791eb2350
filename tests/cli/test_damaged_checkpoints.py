"""Damaged, lost and foreign checkpoints: the one before is used, or the loss is named."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rkkd_cli.errors import RunError, UserError
from rkkd_cli.records.metrics import columns
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.recording.reopen import Reopened, reopen

Program = Callable[..., subprocess.CompletedProcess[str]]
Change = Callable[[Path], object]

WORDS = ("seeds=[0,1,2]", "training.epochs=3", "teacher.training.epochs=1")
SMALL = ("dataset.limit_train=128", "dataset.limit_test=20")
COLUMNS = columns(with_validation=False)
TIMING = {COLUMNS.index("epoch_seconds"), COLUMNS.index("images_per_second")}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the warm program needs fork")


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> Path:
    """A run killed in its second stream or later: two streams at least have checkpoints."""
    place = tmp_path_factory.mktemp("dead")
    run = place / "results" / "run"
    killer = threading.Thread(target=kill_when_there, args=(run,))
    killer.start()
    answer = warm_rkkd("run", "--quiet", "--name", "run", *WORDS, *SMALL, cwd=place)
    killer.join()
    assert answer.returncode == -signal.SIGKILL, answer.stderr
    return run


def kill_when_there(run: Path) -> None:
    end = time.monotonic() + 100
    while time.monotonic() < end:
        if len(list(run.glob("checkpoints/seed-1-kd/0*.pt"))) == 2:
            os.kill(json.loads((run / "manifest.json").read_text())["process"], signal.SIGKILL)
            return
        time.sleep(0.001)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program, dead: Path) -> Path:
    """The same run, never disturbed."""
    place = tmp_path_factory.mktemp("ended")
    answer = warm_rkkd("run", "--quiet", "--name", "run", *WORDS, *SMALL, cwd=place)
    assert answer.returncode == 0, answer.stderr
    return place / "results" / "run"


@contextmanager
def copied(run: Path) -> Iterator[Path]:
    with TemporaryDirectory() as place:
        yield Path(shutil.copytree(run, Path(place) / "results" / "run"))


def numbers(run: Path) -> list[list[str]]:
    """Return the rows without the timing columns, as text."""
    lines = (run / "metrics.csv").read_bytes().decode().split("\n")
    return [[v for n, v in enumerate(ln.split(",")) if n not in TIMING] for ln in lines]


def reopened(run: Path) -> Reopened:
    """Read a run back as `rkkd resume` does before it trains on."""
    directory = RunDirectory(run)
    directory.acquire()
    try:
        return reopen(directory, lambda recorded: recorded or pytest.fail("no experiment"))
    finally:
        directory.release()


def checkpoints(run: Path, stream: str) -> list[Path]:
    return sorted((run / "checkpoints" / stream).glob("0*.pt"))


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def changed(before: str, after: str) -> Change:
    def change(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert before in text
        path.write_text(text.replace(before, after), encoding="utf-8")

    return change


def refused_and_untouched(run: Path, says: str, whole: Path) -> None:
    with pytest.raises((UserError, RunError), match=says):
        reopened(run)
    assert (run / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def last(stream: str, change: Change) -> Change:
    return lambda run: change(checkpoints(run, stream)[-1])


def leave_rubbish(run: Path) -> None:
    for name in (".metrics.csv-abcd1234.rkkd-part", ".manifest.json-abcd_234.rkkd-part"):
        (run / name).write_text("half")
    (run / "checkpoints" / "seed-1-kd" / f".000007-{'0' * 64}.pt-abcd1234.rkkd-part").write_text(
        "half"
    )
    (run / "checkpoints" / "mine").mkdir()
    (run / "checkpoints" / "mine" / "notes.txt").write_text("mine")
    (run / "checkpoints" / "a_file").write_text("mine")


# What happens between the kill and the resume, and what is said of it.
MENDED: dict[str, tuple[Change, str]] = {
    "newest flipped": (last("seed-1-kd", flipped), "of seed-1-kd is damaged; using the previous"),
    "of a finished stream": (last("seed-0-kd", torn), "of seed-0-kd is damaged"),
    "newest deleted": (last("seed-1-kd", Path.unlink), ""),
    "rubbish beside it": (leave_rubbish, ""),
}


@pytest.mark.parametrize("name", MENDED)
def test_a_run_with_a_damaged_checkpoint_ends_as_if_nothing_had_happened(
    name: str, dead: Path, ended: Path, warm_rkkd: Program
) -> None:
    change, says = MENDED[name]
    with copied(dead) as run:
        change(run)
        answer = warm_rkkd("resume", "run", cwd=run.parent.parent)
        assert answer.returncode == 0, answer.stderr
        assert says in answer.stderr
        assert numbers(run) == numbers(ended)
        assert [path for path in run.rglob(".*-????????") if path.is_file()] == []


@pytest.mark.parametrize("damage", [torn, flipped, emptied])
@pytest.mark.parametrize("stream", ["seed-0-kd", "seed-1-kd"])
def test_a_stream_without_a_whole_checkpoint_is_named(
    damage: Change, stream: str, dead: Path
) -> None:
    with copied(dead) as run:
        for path in checkpoints(run, stream):
            damage(path)
        refused_and_untouched(run, f"every checkpoint in .*{stream} is damaged", dead)


@pytest.mark.parametrize("what", ["checkpoints", "checkpoints/seed-0-kd"])
def test_checkpoints_that_are_gone_are_missed(what: str, dead: Path) -> None:
    with copied(dead) as run:
        shutil.rmtree(run / what)
        refused_and_untouched(run, r"arm kd, seed 0, but its checkpoints .* are gone", dead)


def test_a_run_of_other_training_code_is_refused(
    dead: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rkkd_cli.sweep.recording.reopen.NUMBERS_VERSION", 99)
    with copied(dead) as run:
        refused_and_untouched(run, "training gives other numbers .*here 99", dead)


def remove_all(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def damage_all(run: Path) -> None:
    for path in checkpoints(run, "seed-1-kd"):
        flipped(path)


@pytest.mark.parametrize("change", [remove_all, damage_all, last("seed-2-kd", torn)])
def test_an_ended_run_needs_no_checkpoint_while_its_rows_are_whole(
    change: Change, ended: Path
) -> None:
    with copied(ended) as run:
        change(run)
        assert reopened(run).has_ended
        assert (run / "metrics.csv").read_bytes() == (ended / "metrics.csv").read_bytes()


@pytest.mark.parametrize(("change", "says"), [(remove_all, "are gone"), (damage_all, "seed-1-kd")])
def test_changed_rows_of_an_ended_run_that_nothing_can_restore_are_left(
    change: Change, says: str, ended: Path
) -> None:
    with copied(ended) as run:
        change(run)
        changed(",0.", ",1.")(run / "metrics.csv")
        before = (run / "metrics.csv").read_bytes()
        with pytest.raises(RunError, match=says):
            reopened(run)
        assert (run / "metrics.csv").read_bytes() == before


def test_an_ended_run_with_damaged_rows_and_checkpoint_is_trained_to_its_end_again(
    ended: Path, warm_rkkd: Program
) -> None:
    with copied(ended) as run:
        flipped(checkpoints(run, "seed-2-kd")[-1])
        changed(",0.", ",1.")(run / "metrics.csv")
        answer = warm_rkkd("resume", "run", cwd=run.parent.parent)
        assert answer.returncode == 0, answer.stderr
        assert numbers(run) == numbers(ended)
        assert RunDirectory(run).read_manifest().status == "finished"


def test_a_stream_of_no_seed_of_the_run_is_named(dead: Path) -> None:
    with copied(dead) as run:
        shutil.copytree(run / "checkpoints" / "seed-0-kd", run / "checkpoints" / "seed-9-kd")
        refused_and_untouched(
            run, "seed-9-kd holds a checkpoint of seed-0-kd in run 'run', not of this one", dead
        )


def test_checkpoints_of_another_stream_are_not_taken_for_this_ones(dead: Path) -> None:
    with copied(dead) as run:
        shutil.rmtree(run / "checkpoints" / "seed-1-kd")
        shutil.copytree(run / "checkpoints" / "seed-0-kd", run / "checkpoints" / "seed-1-kd")
        refused_and_untouched(run, "seed-1-kd", dead)


def test_checkpoints_of_another_run_are_not_taken_for_this_ones(
    dead: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    words = ("run", "--quiet", "--name", "other", "seeds=[2]", *WORDS[1:], *SMALL, "method.alpha=0")
    assert warm_rkkd(*words, cwd=tmp_path).returncode == 0
    with copied(dead) as run:
        shutil.rmtree(run / "checkpoints" / "seed-2-kd", ignore_errors=True)
        other = tmp_path / "results" / "other" / "checkpoints" / "seed-2-kd"
        shutil.copytree(other, run / "checkpoints" / "seed-2-kd")
        refused_and_untouched(run, "seed-2-kd", dead)
