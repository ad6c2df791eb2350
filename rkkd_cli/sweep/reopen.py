"""Read back a run that has begun: from its checkpoints, and from the files that they vouch for."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from rkkd_cli.config.changes import continued, same_numbers
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import read_experiment, to_toml
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.files import remove_leftovers, write_whole
from rkkd_cli.records.manifest import ENDED, Manifest, parse_manifest
from rkkd_cli.records.metrics import header_line, metrics_sha256
from rkkd_cli.records.restore import restore_metrics
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.begun import Begun
from rkkd_cli.sweep.jobs import stream_groups
from rkkd_cli.sweep.recorder import FORMAT, Recorder, metrics_header, new_manifest
from rkkd_cli.train.checkpoint import CheckpointStore
from rkkd_cli.train.events import ArmStopped

State = dict[str, Any]
KEYS = {"format", "experiment", "manifest", "rows", "lockstep", "sources"}


@dataclass
class Reopened:
    """A run that has begun, ready to go on; ``notes`` say what had to be mended."""

    run: RunDirectory
    experiment: Experiment
    manifest: Manifest | None
    begun: Begun
    has_ended: bool
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> dict[str, str]:
        """The rows of each stream, as lines of metrics.csv."""
        return {name: state["rows"] for name, state in self.begun.states.items()}

    @property
    def stopped(self) -> list[ArmStopped]:
        """The arms that stopped before."""
        stops = [state["lockstep"]["stopped"] for state in self.begun.states.values()]
        return [ArmStopped(**one) for stop in stops for one in stop]


def reopen(run: RunDirectory, request: Callable[[Experiment | None], Experiment]) -> Reopened:
    """Read a run back; ``request`` makes the wanted experiment from the recorded one.

    The caller holds the run's lock. Only what is damaged is written. Raises UserError for an
    experiment that would give other numbers, RunError where the damage cannot be mended.
    """
    notes: list[str] = []
    remove_leftovers(run.path)
    states = _read_states(run, notes)
    vouched = _vouched_experiment(states)
    recorded = _recorded_experiment(run, vouched, notes)
    begun_as = vouched or recorded
    experiment = continued(begun_as, request(recorded), run.name)
    manifest = _manifest(run, states, notes)
    reopened = Reopened(run, experiment, manifest, Begun(states, run.path), False, notes)
    ended = manifest is not None and manifest.status in ENDED
    reopened.has_ended = ended and same_numbers(begun_as, experiment)
    if reopened.has_ended and not states:
        _check_unchanged(run, manifest)
        return reopened
    _check_streams(reopened)
    _restore(reopened)
    reopened.has_ended &= _all_done(reopened)
    return reopened


def _read_states(run: RunDirectory, notes: list[str]) -> dict[str, State]:
    folders = sorted(path for path in run.checkpoints.glob("*/") if path.is_dir())
    states = {}
    for folder in folders:
        loaded = CheckpointStore(folder).load()
        if loaded is None:
            continue
        if not loaded.state.keys() >= KEYS or loaded.state["format"] != FORMAT:
            raise UserError(f"{loaded.path} was not written by this version of rkkd")
        for path in loaded.damaged:
            notes.append(f"checkpoint {path.name} of {folder.name} is damaged; using the previous")
            path.unlink()
        states[folder.name] = loaded.state
    return states


def _vouched_experiment(states: dict[str, State]) -> Experiment | None:
    """Return the experiment that the checkpoints hold: the longest, as epochs may be added."""
    try:
        held = [Experiment.model_validate_json(one["experiment"]) for one in states.values()]
    except ValidationError as error:
        raise UserError(f"the checkpoints were not written by this version: {error}") from None
    return max(held, key=lambda one: one.training.epochs, default=None)


def _recorded_experiment(
    run: RunDirectory, vouched: Experiment | None, notes: list[str]
) -> Experiment:
    """Return what experiment.toml says; where it cannot be read, what the checkpoints say."""
    try:
        return read_experiment(run.experiment)
    except UserError as error:
        if vouched is None:
            raise
        notes.append(f"{error}; it is restored from the checkpoints")
        return vouched


def _manifest(run: RunDirectory, states: dict[str, State], notes: list[str]) -> Manifest | None:
    """Return the manifest, or the newest one that a checkpoint holds."""
    try:
        return run.read_manifest()
    except UserError as error:
        held = [parse_manifest(one["manifest"], "a checkpoint") for one in states.values()]
        newest = max(held, key=lambda one: (len(one.resumed), len(one.stopped)), default=None)
        how = "restored from the checkpoints" if newest else "written anew"
        notes.append(f"{error}; it is {how}")
        return newest


def _check_unchanged(run: RunDirectory, manifest: Manifest | None) -> None:
    """Raise RunError where the rows of an ended run without checkpoints are not as written."""
    assert manifest is not None
    try:
        unchanged = metrics_sha256(run.metrics) == manifest.metrics_sha256
    except FileNotFoundError:
        unchanged = False
    if not unchanged:
        raise RunError(
            f"{run.metrics} is not as the run wrote it, and there are no checkpoints to restore it "
            "from; put back a copy"
        )


def _check_streams(reopened: Reopened) -> None:
    """Raise where checkpoints are of no stream of the experiment, or are gone."""
    known = _streams(reopened.experiment)
    foreign = [name for name in reopened.begun.states if name not in known]
    if foreign:
        raise UserError(
            f"{reopened.run.checkpoints / foreign[0]} belongs to no seed and arms of this run; "
            "remove it"
        )
    group_of = {arm.name: one for one in stream_groups(reopened.experiment) for arm in one.arms}
    for arm, seed in _rows_of_later_epochs(reopened.run.metrics):
        if arm in group_of and f"seed-{seed}-{group_of[arm].name}" not in reopened.begun.states:
            raise RunError(
                f"{reopened.run.metrics} has rows of arm {arm}, seed {seed}, but its checkpoints "
                f"in {reopened.run.checkpoints} are gone; put them back, or start a new run"
            )


def _rows_of_later_epochs(path: Path) -> list[tuple[str, str]]:
    """Return (arm, seed) of the rows after the first epoch: there was a checkpoint before them."""
    with suppress(OSError, UnicodeDecodeError):
        rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
        return [(row[0], row[1]) for row in rows if len(row) > 2 and row[2] not in ("", "1")]
    return []


def _streams(experiment: Experiment) -> list[str]:
    groups = stream_groups(experiment)
    return [group.stream(seed) for group in groups for seed in group.seeds]


def _restore(reopened: Reopened) -> None:
    header = header_line(metrics_header(reopened.experiment))
    rows = reopened.rows
    lines = header + "".join(rows.get(name, "") for name in _streams(reopened.experiment))
    note = restore_metrics(reopened.run.metrics, lines)
    if note:
        reopened.notes.append(note)
    text = to_toml(reopened.experiment)
    path = reopened.run.experiment
    if not path.is_file() or path.read_bytes() != text.encode():
        write_whole(path, text)


def _all_done(reopened: Reopened) -> bool:
    groups = stream_groups(reopened.experiment)
    return all(reopened.begun.is_done(group, seed) for group in groups for seed in group.seeds)


def check_machine(reopened: Reopened, device: torch.device) -> list[str]:
    """Return what is different here from where the run began, where that moves the last bits.

    Raises UserError for another kind of device: its numbers are other ones.
    """
    manifest = reopened.manifest
    if manifest is None:
        return []
    kind = manifest.device.split()[0].partition(":")[0]
    if kind != device.type:
        raise UserError(
            f"run {reopened.run.name!r} began on {kind}, and {device.type} gives other numbers; "
            f"resume it with --device {kind}"
        )
    here = str(torch.__version__)
    if manifest.versions.get("torch") != here:
        was = manifest.versions.get("torch")
        return [f"PyTorch was {was} and is {here}: the last bits of the numbers may move"]
    return []


def recorder_of(reopened: Reopened, device: str, moved: Sequence[str]) -> Recorder:
    """Return the recorder that goes on with the run, and says so in its manifest."""
    fresh = new_manifest(reopened.run.name, device)
    manifest = reopened.manifest or fresh
    if not reopened.begun.states:
        manifest = manifest.model_copy(update={"datasets": [], "teachers": []})
    resumed = {
        "at": fresh.started,
        "command": fresh.command,
        "device": device,
        "torch": fresh.versions["torch"],
        "notes": [*reopened.notes, *moved],
    }
    update = {
        "status": "running",
        "ended": None,
        "reason": None,
        "metrics_sha256": None,
        "process": fresh.process,
        "resumed": [*manifest.resumed, resumed],
    }
    recorder = Recorder(reopened.experiment, reopened.run.path.parent, reopened.run.name, device)
    manifest = manifest.model_copy(update=update)
    recorder.continue_run(reopened.run, manifest, reopened.rows, reopened.stopped)
    return recorder
