"""Reads the checkpoints of a run: states, and copies of its experiment and its manifest."""

import json

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import with_current_keys
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.records.manifest import Manifest, parse_manifest
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.recording.recorder import CHECKPOINT_FORMAT
from rkkd_cli.train.checkpoint import CheckpointStore, State

REQUIRED_KEYS = {
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


def read_states(run: RunDirectory, notes: list[str], is_complete: bool) -> dict[str, State]:
    """Return the state of each stream. A complete run does without, if they are damaged."""
    try:
        return _read_states(run, notes)
    except RunError as error:
        if not is_complete:
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
        is_current = loaded.state.keys() >= REQUIRED_KEYS
        if not is_current or loaded.state["format"] != CHECKPOINT_FORMAT:
            raise UserError(
                f"{loaded.path} was not written by this version of rkkd; continue the run with the "
                "version that began it, or start a new one"
            )
        for path in loaded.damaged:
            notes.append(f"checkpoint {path.name} of {folder.name} is damaged; using the previous")
        states[folder.name] = loaded.state
    return states


def checkpointed_experiment(states: dict[str, State]) -> Experiment | None:
    """Return the longest experiment in a checkpoint: epochs, arms, seeds may have been added."""
    try:
        tables = [with_current_keys(json.loads(s["experiment"])) for s in states.values()]
        experiments = [Experiment.model_validate_json(json.dumps(table)) for table in tables]
    except ValueError as error:  # also of pydantic
        raise UserError(f"the checkpoints were not written by this version: {error}") from None
    return max(experiments, key=_total_epochs, default=None)


def _total_epochs(experiment: Experiment) -> int:
    epochs = sum(arm.experiment.training.epochs for arm in experiment.resolved_arms)
    return epochs * len(experiment.seeds)


def checkpointed_manifest(states: dict[str, State]) -> Manifest | None:
    """Return the newest manifest in a checkpoint."""
    manifests = [parse_manifest(state["manifest"], "a checkpoint") for state in states.values()]
    return max(
        manifests,
        key=lambda manifest: (len(manifest.resumed), len(manifest.stopped)),
        default=None,
    )
