"""Experiments that are trained in this process, and what comes out of that."""

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from running import quick

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override, parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.records.metrics import TIMING
from rkkd_cli.sweep.engines.local import run_jobs
from rkkd_cli.sweep.recording.run_state import RunState
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.events import EpochDone, Event, Note
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import SharedStopController, StopController

CPU = torch.device("cpu")
NEVER = 1e9  # minutes from one checkpoint to the next

Arms = Mapping[str, Mapping[str, Any]]
Row = dict[str, Any]
States = Mapping[str, Any]


def experiment_with(*overrides: str, arms: Arms | None = None) -> Experiment:
    """Return the preset rank_grad, small and fast (QUICK), with overrides and with these arms."""
    given = [parse_override(text) for text in quick(*overrides)]
    if arms is not None:
        given.append(Override("arms", arms))
    return load_experiment("rank_grad", given)


def training(
    experiment: Experiment,
    cache: Path,
    controller: StopController | None = None,
    states: States | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Iterator[Event]:
    """Train a run, from such states of its streams on."""
    if controller is None:
        shared = group.world_size > 1
        controller = SharedStopController(NEVER, group) if shared else StopController(NEVER)
    return run_jobs(RunState(experiment, states).work(), Runtime(CPU, cache, controller, group))


def events_of(experiment: Experiment, cache: Path, states: States | None = None) -> list[Event]:
    """Return all that happens when a run is trained to its end."""
    return list(training(experiment, cache, states=states))


def rows_of(events: Iterable[Event]) -> list[Row]:
    """Return all rows without the columns that are about time."""
    rows = [row for event in events if isinstance(event, EpochDone) for row in event.rows]
    return [{name: row[name] for name in row if name not in TIMING} for row in rows]


def rows_by_arm(events: Iterable[Event]) -> dict[str, list[Row]]:
    """Return each arm's rows without the columns that are about time."""
    rows: dict[str, list[Row]] = {}
    for row in rows_of(events):
        rows.setdefault(row["arm"], []).append(row)
    return rows


def notes_of(events: Iterable[Event]) -> list[str]:
    """Return what users are told."""
    return [event.text for event in events if isinstance(event, Note)]


def saved(thing: object, zipped: bool = True) -> bytes:
    """Return the content of a PyTorch file."""
    file = io.BytesIO()
    torch.save(thing, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def through_a_file(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state as it comes out of a checkpoint."""
    loaded: dict[str, Any] = torch.load(io.BytesIO(saved(state)), weights_only=True)
    return loaded
