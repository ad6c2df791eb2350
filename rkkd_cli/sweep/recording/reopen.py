"""Reads back a run that has begun, from its files and from the checkpoints that restore them."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from rkkd_cli.config.compatibility import (
    continued_experiment,
    differences,
    extended_grid,
    same_numbers,
)
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import NUMBERS_VERSION
from rkkd_cli.config.presets import read_experiment, to_toml
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.files import read_file, remove_leftovers, write_atomically
from rkkd_cli.records.manifest import (
    ENDED_STATUSES,
    FailedJob,
    Manifest,
    NewerRunError,
    parse_manifest,
)
from rkkd_cli.records.metrics import MAX_METRICS_BYTES, header_line, metrics_sha256
from rkkd_cli.records.restore import restore_metrics
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.jobs import Cell, Job
from rkkd_cli.sweep.loggers import Loggers
from rkkd_cli.sweep.recording.beginning import metrics_header
from rkkd_cli.sweep.recording.checkpoints import (
    checkpointed_experiment,
    checkpointed_manifest,
    read_states,
)
from rkkd_cli.sweep.recording.recorder import Recorder
from rkkd_cli.sweep.recording.run_state import RunState, cell_of
from rkkd_cli.train.checkpoint import State


@dataclass
class StoredRun:
    """A run as its files and its checkpoints say.

    ``experiment`` is that of experiment.toml, ``begun_experiment`` the longest that the run has
    begun to train. ``is_complete``: it has ended, and its rows are those that it wrote. ``notes``
    say what is damaged, and why the run failed.
    """

    run: RunDirectory
    manifest: Manifest | None
    states: dict[str, State]
    experiment: Experiment
    begun_experiment: Experiment
    is_complete: bool
    notes: list[str]


@dataclass
class ResumedRun:
    """A run that is ready to continue; ``notes`` say what had to be repaired."""

    run: RunDirectory
    manifest: Manifest | None
    state: RunState
    has_ended: bool
    notes: list[str]

    @property
    def experiment(self) -> Experiment:
        """The experiment with which it continues."""
        return self.state.experiment


def read_run(run: RunDirectory) -> StoredRun:
    """Read back a run that has begun. The caller holds the run's lock.

    Raises UserError for checkpoints of another run or version, RunError if damage cannot be
    repaired.
    """
    notes: list[str] = []
    remove_leftovers(run.path)
    manifest, problem = _read_manifest(run)
    is_complete = manifest is not None and _is_complete(run, manifest)
    states = read_states(run, notes, is_complete)
    if manifest is not None and manifest.status == "failed" and manifest.reason:
        notes.append(f"run {run.name} failed before: {manifest.reason}")
    if manifest is None:
        manifest = checkpointed_manifest(states)
        repair = "restored from the checkpoints" if manifest else "renewed"
        notes.append(f"{problem}; it is {repair}")
    _check_origin(run, manifest, states)
    _check_version(run, manifest)
    checkpointed = checkpointed_experiment(states)
    experiment = _read_experiment(run, checkpointed, notes)
    if checkpointed is None:
        begun_experiment = experiment
    elif experiment.vary:  # a grid may have been extended after its last checkpoint
        begun_experiment = extended_grid(checkpointed, experiment, run.name)
    else:
        begun_experiment = checkpointed
    return StoredRun(
        run=run,
        manifest=manifest,
        states=states,
        experiment=experiment,
        begun_experiment=begun_experiment,
        is_complete=is_complete,
        notes=notes,
    )


def resume_run(recorded: StoredRun, wanted: Experiment, extend: bool = False) -> ResumedRun:
    """Return the run, ready to continue as the ``wanted`` experiment; its files are repaired.

    With ``extend`` it gets the missing cells and seeds of a grid. Raises UserError for an
    experiment that would give other numbers, RunError if damage cannot be repaired.
    """
    run, begun, notes = recorded.run, recorded.begun_experiment, recorded.notes
    change = extended_grid if extend else continued_experiment
    experiment = change(begun, wanted, run.name)
    failed_jobs = recorded.manifest.failed if recorded.manifest else []
    failed = {cell for job in failed_jobs for cell in _cells(job)}
    state = RunState(experiment, recorded.states, run.path, failed)
    resumed = ResumedRun(run, recorded.manifest, state, has_ended=False, notes=notes)
    if same_numbers(begun, experiment):
        resumed.has_ended = recorded.is_complete
    else:
        notes.append(f"longer than it began: {differences(begun, experiment)}")
    if not resumed.has_ended:
        check_streams(resumed)
        _restore_metrics(resumed)
    text = to_toml(experiment)
    if _content(run.experiment) != text.encode():
        write_atomically(run.experiment, text)
    return resumed


def _content(path: Path) -> bytes | None:
    with suppress(OSError):
        return read_file(path)
    return None


def _cells(job: FailedJob) -> list[Cell]:
    return [(arm, job["seed"]) for arm in job["arms"]]


def _read_manifest(run: RunDirectory) -> tuple[Manifest | None, str]:
    """Return the manifest, or the damage. Raises NewerRunError: that would be no repair."""
    try:
        return run.read_manifest(), ""
    except NewerRunError:
        raise
    except UserError as error:
        return None, str(error)


def _check_origin(run: RunDirectory, manifest: Manifest | None, states: dict[str, State]) -> None:
    """Raise UserError for checkpoints of another run or of another stream."""
    for name, state in states.items():
        origin = parse_manifest(state["manifest"], "the manifest in a checkpoint")
        if state["stream"] != name or manifest is None or origin.id != manifest.id:
            raise UserError(
                f"{run.checkpoints / name} holds a checkpoint of {state['stream']} in run "
                f"{origin.run!r}, not of this one; put the right one back"
            )


def _check_version(run: RunDirectory, manifest: Manifest | None) -> None:
    """Raise UserError if a version of rkkd began the run whose training gives other numbers."""
    if manifest is not None and manifest.numbers_version != NUMBERS_VERSION:
        raise UserError(
            f"run {run.name!r} was begun by a version of rkkd whose training gives other numbers "
            f"(version {manifest.numbers_version} of them, here {NUMBERS_VERSION}); start a new run"
        )


def _is_complete(run: RunDirectory, manifest: Manifest) -> bool:
    """Tell whether the run has ended and its rows are those that it wrote."""
    if manifest.status not in ENDED_STATUSES:
        return False
    try:
        return metrics_sha256(run.metrics) == manifest.metrics_sha256
    except OSError:
        return False


def _read_experiment(
    run: RunDirectory, checkpointed: Experiment | None, notes: list[str]
) -> Experiment:
    """Return the experiment of experiment.toml, or of the checkpoints if that cannot be read."""
    try:
        return read_experiment(run.experiment)
    except UserError as error:
        if checkpointed is None:
            raise
        notes.append(f"{error}; it is restored from the checkpoints")
        return checkpointed


def check_streams(resumed: ResumedRun) -> None:
    """Raise RunError if the checkpoints of a stream are gone, but not its rows."""
    state, run = resumed.state, resumed.run
    epochs_of: dict[Cell, set[str]] = {}
    for cell, epoch in _cells_and_epochs(run.metrics):
        epochs_of.setdefault(cell, set()).add(epoch)
    for (arm, seed), epochs in epochs_of.items():
        had_checkpoint = {"1", "2"} <= epochs  # between these epochs
        if had_checkpoint and arm in state.arms and (arm, seed) not in state.owner:
            raise RunError(
                f"{run.metrics} has rows of arm {arm}, seed {seed}, but its checkpoints in "
                f"{run.checkpoints} are gone; put them back, or start a new run"
            )


def _cells_and_epochs(path: Path) -> list[tuple[Cell, str]]:
    """Return the cell and the text of the epoch of each line of a metrics.csv, damaged or not."""
    with suppress(OSError, UnicodeDecodeError):
        lines = read_file(path, MAX_METRICS_BYTES).decode().splitlines()[1:]
        pairs = [(cell_of(line), line.split(",")[2]) for line in lines if line.count(",") > 2]
        return [(cell, epoch) for cell, epoch in pairs if cell is not None]
    return []


def _restore_metrics(resumed: ResumedRun) -> None:
    datasets = resumed.manifest.datasets if resumed.manifest else []
    header = header_line(metrics_header(resumed.experiment, datasets))
    rows, stream_of = resumed.state.rows(), _stream_lookup(resumed.state)
    note = restore_metrics(resumed.run.metrics, header, rows, stream_of)
    if note:
        resumed.notes.append(note)


def _stream_lookup(state: RunState) -> Callable[[str], str | None]:
    """Return a function from a line of metrics.csv to its stream, or None for a foreign line.

    It returns "" for a cell whose stream has no checkpoint yet.
    """
    cells = {(arm, seed) for arm in state.arms for seed in state.experiment.seeds}

    def stream_of(line: str) -> str | None:
        cell = cell_of(line)
        return state.owner.get(cell, "") if cell in cells else None

    return stream_of


def check_machine(resumed: ResumedRun, device: torch.device, ranks: int = 1) -> list[str]:
    """Return the differences from the machine where the run began that move the last bits.

    Raises UserError for another type of device or another number of ranks, which change the
    numbers.
    """
    manifest = resumed.manifest
    if manifest is None:
        return []
    device_type = manifest.device.split()[0].partition(":")[0]
    if device_type != device.type:
        raise UserError(
            f"run {resumed.run.name!r} began on {device_type}, and {device.type} gives other "
            f"numbers; resume it with --device {device_type}"
        )
    if manifest.ranks != ranks:
        start = f"torchrun --nproc-per-node {manifest.ranks} -m rkkd_cli"
        way_on = "without torchrun" if manifest.ranks == 1 else f"with `{start} resume …`"
        raise UserError(
            f"run {resumed.run.name!r} began on {_count_ranks(manifest.ranks)}, and "
            f"{_count_ranks(ranks)} would give other numbers; resume it {way_on}"
        )
    version, begun_version = str(torch.__version__), manifest.versions.get("torch")
    if begun_version != version:
        return [
            f"PyTorch was {begun_version} and is {version}: the last bits of the numbers may move"
        ]
    return []


def _count_ranks(ranks: int) -> str:
    return "one process" if ranks == 1 else f"{ranks} ranks"


def resumed_recorder(
    resumed: ResumedRun,
    device: str,
    moved: Sequence[str],
    jobs: Sequence[Job],
    loggers: Loggers | None = None,
) -> Recorder:
    """Return the recorder that continues the run; the manifest lists the resumption.

    ``moved`` are the differences from :func:`check_machine`. The failed cells of ``jobs`` are
    trained again, and are no longer listed as failed.
    """
    run = resumed.run
    recorder = Recorder(resumed.experiment, run.path.parent, run.name, device, loggers=loggers)
    this_process = recorder.manifest
    manifest = resumed.manifest or this_process
    if not resumed.state.states:
        manifest = manifest.model_copy(update={"datasets": [], "teachers": []})
    resumption = {
        "at": this_process.started,
        "command": this_process.command,
        "device": device,
        "torch": this_process.versions["torch"],
        "notes": [*resumed.notes, *moved],
    }
    retried = {cell for job in jobs for cell in job.cells}
    update = {
        "failed": [job for job in manifest.failed if retried.isdisjoint(_cells(job))],
        "status": "running",
        "ended": None,
        "reason": None,
        "metrics_sha256": None,
        "process": this_process.process,
        "resumed": [*manifest.resumed, resumption],
    }
    manifest = manifest.model_copy(update=update)
    rows = resumed.state.rows()
    stopped, ended = resumed.state.stopped(), resumed.state.ended_early()
    recorder.continue_run(run, manifest, rows, stopped, ended)
    return recorder
