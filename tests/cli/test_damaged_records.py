"""Damaged manifests and experiments: restored from the checkpoints, or named."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rkkd_cli.config.compatibility import same_numbers
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import read_experiment
from rkkd_cli.errors import UserError
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.recording.reopen import Reopened, reopen

Program = Callable[..., subprocess.CompletedProcess[str]]
Change = Callable[[Path], object]

WORDS = ("seeds=[0,1]", "training.epochs=2", "teacher.training.epochs=1")
SMALL = ("dataset.limit_train=128", "dataset.limit_test=20")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the warm program needs fork")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> Path:
    """A run that has ended."""
    place = tmp_path_factory.mktemp("ended")
    answer = warm_rkkd("run", "--quiet", "--name", "run", *WORDS, *SMALL, cwd=place)
    assert answer.returncode == 0, answer.stderr
    return place / "results" / "run"


@contextmanager
def copied(run: Path) -> Iterator[Path]:
    with TemporaryDirectory() as place:
        yield Path(shutil.copytree(run, Path(place) / "results" / "run"))


def reopened(run: Path) -> Reopened:
    """Read a run back as `rkkd resume` does before it trains on."""
    directory = RunDirectory(run)
    directory.acquire()
    try:
        return reopen(directory, lambda recorded: recorded or pytest.fail("no experiment"))
    finally:
        directory.release()


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


def holding(content: bytes) -> Change:
    return lambda path: path.write_bytes(content)


MANIFESTS: dict[str, Change] = {
    "torn": torn,
    "flipped": flipped,
    "emptied": emptied,
    "deleted": Path.unlink,
    "an empty table": holding(b"{}"),
    "a list": holding(b"[]"),
    "a number": holding(b"NaN"),
    "no text": holding(b"\xff\xfe"),
    "endless": holding(b"[" * 100_000),
    "another status": changed('"finished"', '"incomplete"'),
}


@pytest.mark.parametrize("damage", MANIFESTS)
def test_a_damaged_manifest_is_named_and_made_again(
    damage: str, ended: Path, warm_rkkd: Program
) -> None:
    with copied(ended) as run:
        MANIFESTS[damage](run / "manifest.json")
        place = run.parent.parent
        for command in (["show", "run"], ["plot", "run"]):
            answer = warm_rkkd(*command, cwd=place)
            assert answer.returncode == 2
            assert answer.stderr.count("\n") == answer.stderr.count("rkkd: error: ") == 1
            assert "manifest.json" in answer.stderr
        assert warm_rkkd("ls", "runs", cwd=place).returncode == 0
        after = reopened(run)
        assert any("manifest.json" in note and "restored" in note for note in after.notes)
        whole = RunDirectory(ended).read_manifest()
        assert after.manifest is not None
        assert after.manifest.datasets + after.manifest.teachers == whole.datasets + whole.teachers


@pytest.mark.parametrize(
    "damage",
    [torn, emptied, Path.unlink, holding(b"\x00\xff"), changed("[teacher]", "[tea[her]")],
)
def test_a_damaged_experiment_is_restored_from_the_checkpoints(damage: Change, ended: Path) -> None:
    with copied(ended) as run:
        damage(run / "experiment.toml")
        assert any("experiment.toml" in note for note in reopened(run).notes)
        assert (run / "experiment.toml").read_bytes() == (ended / "experiment.toml").read_bytes()


def test_a_changed_experiment_is_refused_and_the_key_named(ended: Path) -> None:
    with copied(ended) as run:
        changed("alpha = 0.9", "alpha = 0.8")(run / "experiment.toml")
        with pytest.raises(UserError, match=r"method\.alpha \(0\.9 → 0\.8\)"):
            reopened(run)


@settings(max_examples=60)
@given(at=st.integers(0, 4000), bit=st.integers(0, 7), cut=st.booleans())
def test_no_damage_of_an_experiment_changes_what_is_trained(
    at: int, bit: int, cut: bool, ended: Path
) -> None:
    original = read_experiment(ended / "experiment.toml")
    with copied(ended) as run:
        path = run / "experiment.toml"
        content = bytearray(path.read_bytes())
        content[at % len(content)] ^= 1 << bit
        path.write_bytes(content[: at % len(content)] if cut else content)
        try:
            outcome: Experiment | str = reopened(run).experiment
        except UserError as error:
            outcome = str(error)
        if isinstance(outcome, str):
            assert "\n" not in outcome
        else:
            assert same_numbers(outcome, original)
