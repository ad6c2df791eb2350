"""Read back a run that has begun: from its files, and from the checkpoints that restore them."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rkkd_cli.config.compatibility import continued, differences, extended, same_numbers
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import NUMBERS_VERSION
from rkkd_cli.config.presets import read_experiment, to_toml
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.files import remove_leftovers, write_whole
from rkkd_cli.records.manifest import ENDED_STATUSES, FailedJob, Manifest, parse_manifest
from rkkd_cli.records.metrics import header_line, metrics_sha256
from rkkd_cli.records.restore import restore_metrics
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.jobs import Cell, Job
from rkkd_cli.sweep.loggers import Loggers
from rkkd_cli.sweep.recording.checkpoints import (
    State,
    checkpointed_experiment,
    checkpointed_manifest,
    states_if_needed,
)
from rkkd_cli.sweep.recording.recorder import Recorder, metrics_header
from rkkd_cli.sweep.recording.run_state import RunState, cell_of
from rkkd_cli.train.events import ArmStopped, EndedEarly


@dataclass
class RecordedRun:
    """A run read back: what its files and its checkpoints say.

    ``experiment`` is what experiment.toml has, ``begun_as`` what the run was last told to do.
    ``is_whole``: it has ended, and its rows are those that it wrote. ``notes`` say what is damaged.
    """

    run: RunDirectory
    manifest: Manifest | None
    states: dict[str, State]
    experiment: Experiment
    begun_as: Experiment
    is_whole: bool
    notes: list[str]


@dataclass
class ResumedRun:
    """A run that has begun, ready to go on; ``notes`` say what had to be repaired."""

    run: RunDirectory
    manifest: Manifest | None
    state: RunState
    has_ended: bool
    notes: list[str]

    @property
    def experiment(self) -> Experiment:
        """The experiment with which it goes on."""
        return self.state.experiment

    @property
    def stopped(self) -> list[ArmStopped]:
        """The arms that stopped before, and have not been trained again."""
        stops = [ArmStopped(**one) for one in self._gone("stopped")]
        return [one for one in stops if self._is_owner(one)]

    @property
    def ended_early(self) -> list[EndedEarly]:
        """The arms that ended before their last epoch because they got no better."""
        ends = [EndedEarly(**one) for one in self._gone("ended")]
        epochs = {n: arm.experiment.training.epochs for n, arm in self.state.arms.items()}
        return [one for one in ends if self._is_owner(one) and one.epoch < epochs[one.arm]]

    def _gone(self, how: str) -> list[dict[str, Any]]:
        states = self.state.states.values()
        return [one for state in states for one in state["lockstep"].get(how, ())]

    def _is_owner(self, event: ArmStopped | EndedEarly) -> bool:
        return self.state.owner[event.arm, event.seed] == event.stream


def read_run(run: RunDirectory) -> RecordedRun:
    """Read back a run that has begun. The caller holds the run's lock.

    Raises UserError for checkpoints of another run or version, RunError where damage cannot be
    repaired.
    """
    notes: list[str] = []
    remove_leftovers(run.path)
    manifest, damage = _read_manifest(run)
    is_whole = manifest is not None and _ended_whole(run, manifest)
    states = states_if_needed(run, notes, is_whole)
    if manifest is None:
        manifest = checkpointed_manifest(states)
        notes.append(
            f"{damage}; it is {'restored from the checkpoints' if manifest else 'renewed'}"
        )
    _check_origin(run, manifest, states)
    _check_version(run, manifest)
    checkpointed = checkpointed_experiment(states)
    recorded = _recorded_experiment(run, checkpointed, notes)
    begun_as = _begun_as(checkpointed, recorded, run.name)
    return RecordedRun(run, manifest, states, recorded, begun_as, is_whole, notes)


def resume_run(recorded: RecordedRun, wanted: Experiment, extend: bool = False) -> ResumedRun:
    """Return the run, ready to go on as the ``wanted`` experiment; its files are repaired.

    With ``extend`` it gets the cells and seeds of a grid that it lacks. Raises UserError for an
    experiment that would give other numbers, RunError where the damage cannot be repaired.
    """
    run, begun_as, notes = recorded.run, recorded.begun_as, recorded.notes
    change = extended if extend else continued
    experiment = change(begun_as, wanted, run.name)
    failed = _failed_cells(recorded.manifest)
    state = RunState(experiment, recorded.states, run.path, failed)
    resumed = ResumedRun(run, recorded.manifest, state, False, notes)
    if same_numbers(begun_as, experiment):
        resumed.has_ended = recorded.is_whole
    else:
        notes.append(f"longer than it began: {differences(begun_as, experiment)}")
    if not resumed.has_ended:
        check_streams(resumed)
        _restore_metrics(resumed)
    _restore_experiment(resumed)
    return resumed


def _begun_as(checkpointed: Experiment | None, recorded: Experiment, run: str) -> Experiment:
    """Return what the run was last told: a grid may be extended after its last checkpoint."""
    if checkpointed is None:
        return recorded
    return extended(checkpointed, recorded, run) if recorded.vary else checkpointed


def _failed_cells(manifest: Manifest | None) -> set[Cell]:
    failed = manifest.failed if manifest else []
    return {cell for job in failed for cell in _cells(job)}


def _cells(job: FailedJob) -> list[Cell]:
    return [(arm, job["seed"]) for arm in job["arms"]]


def _read_manifest(run: RunDirectory) -> tuple[Manifest | None, str]:
    """Return the manifest, or what is wrong with it."""
    try:
        return run.read_manifest(), ""
    except UserError as error:
        return None, str(error)


def _check_origin(run: RunDirectory, manifest: Manifest | None, states: dict[str, State]) -> None:
    """Raise UserError for checkpoints of another run or of another stream."""
    for name, state in states.items():
        held = parse_manifest(state["manifest"], "the manifest in a checkpoint")
        if state["stream"] != name or manifest is None or held.id != manifest.id:
            raise UserError(
                f"{run.checkpoints / name} holds a checkpoint of {state['stream']} in run "
                f"{held.run!r}, not of this one; put the right one back"
            )


def _check_version(run: RunDirectory, manifest: Manifest | None) -> None:
    """Raise UserError where the training code has changed so that it gives other numbers."""
    if manifest is not None and manifest.numbers_version != NUMBERS_VERSION:
        raise UserError(
            f"run {run.name!r} was begun by a version of rkkd whose training gives other numbers "
            f"(version {manifest.numbers_version} of them, here {NUMBERS_VERSION}); start a new run"
        )


def _ended_whole(run: RunDirectory, manifest: Manifest) -> bool:
    """Tell whether the run has ended and its rows are those that it wrote."""
    if manifest.status not in ENDED_STATUSES:
        return False
    try:
        return metrics_sha256(run.metrics) == manifest.metrics_sha256
    except OSError:
        return False


def _recorded_experiment(
    run: RunDirectory, checkpointed: Experiment | None, notes: list[str]
) -> Experiment:
    """Return what experiment.toml says; where it cannot be read, what the checkpoints say."""
    try:
        return read_experiment(run.experiment)
    except UserError as error:
        if checkpointed is None:
            raise
        notes.append(f"{error}; it is restored from the checkpoints")
        return checkpointed


def check_streams(resumed: ResumedRun) -> None:
    """Raise RunError where the checkpoints of a stream are gone, but not its rows."""
    state, run = resumed.state, resumed.run
    epochs: dict[Cell, set[str]] = {}
    for cell, epoch in _epochs_found(run.metrics):
        epochs.setdefault(cell, set()).add(epoch)
    for (arm, seed), found in epochs.items():
        past = {"1", "2"} <= found  # there was a checkpoint between them
        if past and arm in state.arms and (arm, seed) not in state.owner:
            raise RunError(
                f"{run.metrics} has rows of arm {arm}, seed {seed}, but its checkpoints in "
                f"{run.checkpoints} are gone; put them back, or start a new run"
            )


def _epochs_found(path: Path) -> list[tuple[Cell, str]]:
    """Return the cell of each line of a metrics.csv, damaged or not, with what stands for epoch."""
    with suppress(OSError, UnicodeDecodeError):
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        found = [(cell_of(line), line.split(",")[2]) for line in lines if line.count(",") > 2]
        return [(cell, epoch) for cell, epoch in found if cell is not None]
    return []


def _stream_of(state: RunState) -> Callable[[str], str | None]:
    """Return what tells the stream of a line of metrics.csv: None for a foreign line.

    A cell whose stream has no checkpoint yet has the stream "".
    """
    cells = {(arm, seed) for arm in state.arms for seed in state.experiment.seeds}

    def stream_of(line: str) -> str | None:
        cell = cell_of(line)
        return state.owner.get(cell, "") if cell in cells else None

    return stream_of


def _restore_metrics(resumed: ResumedRun) -> None:
    header = header_line(metrics_header(resumed.experiment))
    stream_of = _stream_of(resumed.state)
    note = restore_metrics(resumed.run.metrics, header, resumed.state.rows(), stream_of)
    if note:
        resumed.notes.append(note)


def _restore_experiment(resumed: ResumedRun) -> None:
    text, path = to_toml(resumed.experiment), resumed.run.experiment
    if not path.is_file() or path.read_bytes() != text.encode():
        write_whole(path, text)


def check_machine(resumed: ResumedRun, device: torch.device, ranks: int = 1) -> list[str]:
    """Return what is different here from where the run began, where that moves the last bits.

    Raises UserError for another kind of device, or another number of ranks: their numbers are
    other ones.
    """
    manifest = resumed.manifest
    if manifest is None:
        return []
    kind = manifest.device.split()[0].partition(":")[0]
    if kind != device.type:
        raise UserError(
            f"run {resumed.run.name!r} began on {kind}, and {device.type} gives other numbers; "
            f"resume it with --device {kind}"
        )
    if manifest.ranks != ranks:
        start = f"torchrun --nproc-per-node {manifest.ranks} -m rkkd_cli"
        way_on = "without torchrun" if manifest.ranks == 1 else f"with `{start} resume …`"
        raise UserError(
            f"run {resumed.run.name!r} began on {_counted(manifest.ranks)}, and "
            f"{_counted(ranks)} would normalise and add up in other parts; resume it {way_on}"
        )
    here = str(torch.__version__)
    if manifest.versions.get("torch") != here:
        was = manifest.versions.get("torch")
        return [f"PyTorch was {was} and is {here}: the last bits of the numbers may move"]
    return []


def _counted(ranks: int) -> str:
    return "one process" if ranks == 1 else f"{ranks} ranks"


def resumed_recorder(
    resumed: ResumedRun,
    device: str,
    moved: Sequence[str],
    jobs: Sequence[Job],
    loggers: Loggers | None = None,
) -> Recorder:
    """Return the recorder that goes on with the run, and says so in its manifest.

    Of the jobs that were given up, those that are now done again are no longer listed.
    """
    run = resumed.run
    recorder = Recorder(resumed.experiment, run.path.parent, run.name, device, loggers=loggers)
    fresh = recorder.manifest
    manifest = resumed.manifest or fresh
    if not resumed.state.states:
        manifest = manifest.model_copy(update={"datasets": [], "teachers": []})
    resumption = {
        "at": fresh.started,
        "command": fresh.command,
        "device": device,
        "torch": fresh.versions["torch"],
        "notes": [*resumed.notes, *moved],
    }
    again = {cell for job in jobs for cell in job.cells}
    update = {
        "failed": [one for one in manifest.failed if again.isdisjoint(_cells(one))],
        "status": "running",
        "ended": None,
        "reason": None,
        "metrics_sha256": None,
        "process": fresh.process,
        "resumed": [*manifest.resumed, resumption],
    }
    manifest = manifest.model_copy(update=update)
    gone: list[ArmStopped | EndedEarly] = [*resumed.stopped, *resumed.ended_early]
    recorder.continue_run(run, manifest, resumed.state.rows(), gone)
    return recorder
