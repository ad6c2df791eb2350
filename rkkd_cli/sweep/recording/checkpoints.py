"""What the checkpoints of a run hold: states, and copies of its experiment and its manifest."""

from typing import Any

from pydantic import ValidationError

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.records.manifest import Manifest, parse_manifest
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.recording.recorder import FORMAT
from rkkd_cli.train.checkpoint import CheckpointStore

State = dict[str, Any]
KEYS = {
    "seed",
    "number",
    "format",
    "stream",
    "experiment",
    "manifest",
    "rows",
    "lockstep",
    "sources",
}


def states_if_needed(run: RunDirectory, notes: list[str], is_whole: bool) -> dict[str, State]:
    """Return the state of each stream; a run that has ended whole needs none of them."""
    try:
        return _read_states(run, notes)
    except RunError as error:
        if not is_whole:
            raise
        notes.append(str(error))
        return {}


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
        states[folder.name] = loaded.state
    return states


def checkpointed_experiment(states: dict[str, State]) -> Experiment | None:
    """Return the longest experiment that a checkpoint holds: epochs, arms, seeds may be added."""
    try:
        held = [Experiment.model_validate_json(one["experiment"]) for one in states.values()]
    except ValidationError as error:
        raise UserError(f"the checkpoints were not written by this version: {error}") from None
    return max(held, key=_all_epochs, default=None)


def _all_epochs(experiment: Experiment) -> int:
    epochs = sum(arm.experiment.training.epochs for arm in experiment.resolved_arms)
    return epochs * len(experiment.seeds)


def checkpointed_manifest(states: dict[str, State]) -> Manifest | None:
    """Return the newest manifest that a checkpoint holds."""
    held = [parse_manifest(one["manifest"], "a checkpoint") for one in states.values()]
    return max(held, key=lambda one: (len(one.resumed), len(one.stopped)), default=None)
