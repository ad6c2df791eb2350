"""Damaged, lost and foreign checkpoints, manifests, experiments: restored, or named."""

import json
import shutil
from pathlib import Path

import pytest
from damage import Change, changed, copied, emptied, flipped, holding, reopened, torn
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Program, quick, refused, succeeded
from written import numbers_of

from rkkd_cli.config.compatibility import same_numbers
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import read_experiment
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.records.manifest import RUN_FORMAT, Manifest, manifest_text
from rkkd_cli.records.run_directory import RunDirectory


def checkpoints(run: Path, stream: str) -> list[Path]:
    return sorted((run / "checkpoints" / stream).glob("0*.pt"))


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
        assert says in succeeded(warm_rkkd("resume", "run", cwd=run.parent.parent)).stderr
        assert numbers_of(run) == numbers_of(ended)
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
        succeeded(warm_rkkd("resume", "run", cwd=run.parent.parent))
        assert numbers_of(run) == numbers_of(ended)
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
    words = quick("seeds=[2]", "training.epochs=3", "method.alpha=0")
    succeeded(warm_rkkd("run", "--name", "other", *words, cwd=tmp_path))
    with copied(dead) as run:
        shutil.rmtree(run / "checkpoints" / "seed-2-kd", ignore_errors=True)
        other = tmp_path / "results" / "other" / "checkpoints" / "seed-2-kd"
        shutil.copytree(other, run / "checkpoints" / "seed-2-kd")
        refused_and_untouched(run, "seed-2-kd", dead)


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
        for command in ("show", "plot"):
            refused(warm_rkkd(command, "run", cwd=place), "manifest.json")
        succeeded(warm_rkkd("ls", "runs", cwd=place))
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


def write_newer_format(run: Path) -> None:
    """Give the manifest the next format, and the checksum of a sound file."""
    content = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    newer = Manifest.model_validate(content | {"format": RUN_FORMAT + 1})
    (run / "manifest.json").write_text(manifest_text(newer), encoding="utf-8")


def test_a_run_of_a_newer_format_is_refused_in_one_sentence_and_left_as_it_is(
    ended: Path, warm_rkkd: Program
) -> None:
    with copied(ended) as run:
        write_newer_format(run)
        shutil.rmtree(run / "checkpoints")  # from which a damaged manifest could be restored
        before = (run / "manifest.json").read_bytes()
        for command in ("show", "resume"):
            said = refused(warm_rkkd(command, "run", cwd=run.parent.parent))
            assert "manifest.json was written by a newer rkkd (format 2, here 1)" in said
        assert (run / "manifest.json").read_bytes() == before
