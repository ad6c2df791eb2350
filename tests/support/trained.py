"""Experiments that are trained in this process, and what comes out of that."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from running import quick
from weights import through_a_file

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override, parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.data.images import Dataset
from rkkd_cli.records.metrics import TIMING
from rkkd_cli.sweep.datasets import load
from rkkd_cli.sweep.engines.local import run_jobs
from rkkd_cli.sweep.recording.run_state import RunState
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.events import Checkpoint, EpochDone, Event, Note
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import SharedStopController, StopController, Stopped

CPU = torch.device("cpu")
NEVER = 1e9  # minutes from one checkpoint to the next

Arms = Mapping[str, Mapping[str, Any]]
Row = dict[str, Any]
States = Mapping[str, Any]

SETTINGS: dict[str, dict[str, Any]] = {"crd": {"negatives": 20}, "fitnet": {"hint_layer": 1}}
DIVERGING: Arms = {"bad": {"training": {"lr": 1e30}}}


def experiment_with(*overrides: str, arms: Arms | None = None) -> Experiment:
    """Return the preset rank_grad, small and fast (QUICK), with overrides and with these arms."""
    given = [parse_override(text) for text in quick(*overrides)]
    if arms is not None:
        given.append(Override("arms", arms))
    return load_experiment("rank_grad", given)


def experiment_on(root: Path, *overrides: str) -> Experiment:
    """Return the preset rank_grad on an image folder."""
    given = ("dataset.name=folder", f"dataset.root={root}", "dataset.image_size=16", *overrides)
    return load_experiment("rank_grad", [parse_override(text) for text in given])


def labelled_images(experiment: Experiment, cache: Path) -> Dataset:
    """Return the experiment's dataset, whose images have a class each."""
    dataset = load(experiment, cache)
    assert isinstance(dataset, Dataset)
    return dataset


def arm_of(method: str) -> dict[str, Any]:
    """Return an arm of a method, with settings that suit small students and few images."""
    settings = {method: SETTINGS[method]} if method in SETTINGS else {}
    return {"method": {"name": method, **settings}}


def runtime(cache: Path, minutes: float = NEVER) -> Runtime:
    """Return what trains on the CPU, with a checkpoint each time that so many minutes are over."""
    return Runtime(CPU, cache, StopController(minutes))


def events_of(
    experiment: Experiment,
    cache: Path,
    states: States | None = None,
    controller: StopController | None = None,
    at_each: Callable[[Event], object] = type,
    group: ProcessGroup = SINGLE_PROCESS,
) -> list[Event]:
    """Train to the end, or to where ``controller`` stops it; checkpoints are as files have them.

    ``at_each`` is called with each event as it happens; ``states`` are those of streams that go on.
    """
    if controller is None:
        shared = group.world_size > 1
        controller = SharedStopController(NEVER, group) if shared else StopController(NEVER)
    work, events = RunState(experiment, states).work(), list[Event]()
    with suppress(Stopped):
        for event in run_jobs(work, Runtime(CPU, cache, controller, group)):
            if isinstance(event, Checkpoint):
                event = Checkpoint(event.stream, through_a_file(event.state))
            events.append(event)
            at_each(event)
    return events


def checkpoints_of(events: Sequence[Event]) -> list[tuple[int, Checkpoint]]:
    """Return the checkpoints, each with the number of events before it."""
    return [(n, event) for n, event in enumerate(events) if isinstance(event, Checkpoint)]


def going_on(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the states from which a run goes on after a checkpoint."""
    return {checkpoint.stream: through_a_file(checkpoint.state)}


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
