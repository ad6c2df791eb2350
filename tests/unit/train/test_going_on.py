"""A stream that is left at any moment and gone on with gives exactly the remaining rows."""

import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override, parse_override, parse_value
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.sweep.engines.local import run_jobs
from rkkd_cli.sweep.recording.run_state import RunState
from rkkd_cli.train.events import (
    ArmStopped,
    BatchDone,
    Checkpoint,
    EpochDone,
    Event,
    StreamStarted,
    TeacherEpoch,
    Tick,
)
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController, Stopped

CPU = torch.device("cpu")
NEVER = 1e9  # minutes
QUICK = {
    "training.epochs": "2",
    "teacher.training.epochs": "1",
    "seeds": "[0]",
    "dataset.limit_train": "200",
    "dataset.limit_test": "100",
}
OTHER_SETTINGS = {
    "precision": "bf16",
    "dataset.val_share": "0.2",
    "dataset.flip": "true",
    "dataset.crop_padding": "1",
    "training.warmup_epochs": "1.0",
}
Arms = dict[str, dict[str, Any]]
Row = dict[str, Any]
ARMS: Arms = {
    "kd_rank": {"rank": {"grad": True}},
    "adamw": {"training": {"optimizer": "adamw", "lr": 0.01}, "student": {"model": "cnn2"}},
}
BAD: Arms = {"bad": {"training": {"lr": 1e30}}}


class CachedStream(NamedTuple):
    """A checkpoint as a file has it, and how many events came before it."""

    content: bytes
    events: int

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = torch.load(io.BytesIO(self.content), weights_only=True)
        return state


def experiment_with(settings: dict[str, str] | None = None, arms: Arms = ARMS) -> Experiment:
    quick = QUICK | (settings or {})
    given = [parse_override(f"{key}={value}") for key, value in quick.items()]
    return load_experiment("rank_grad", [*given, Override("arms", arms)])


def watch(
    experiment: Experiment,
    cache: Path,
    controller: StopController,
    begun: dict[str, Any] | None = None,
    at_each: Callable[[Event], object] = type,
) -> tuple[list[Event], list[CachedStream]]:
    """Run to the end, or to where ``controller`` stops it; keep every checkpoint as a file would."""
    events: list[Event] = []
    kept = []
    with suppress(Stopped):
        for event in run_jobs(RunState(experiment, begun).work(), Runtime(CPU, cache, controller)):
            if isinstance(event, Checkpoint):
                file = io.BytesIO()
                torch.save(event.state, file)
                kept.append(CachedStream(file.getvalue(), len(events)))
            events.append(event)
            at_each(event)
    return events, kept


def rows_of(events: list[Event]) -> list[Row]:
    """Return all rows without the two columns that are about time."""
    timing = ("epoch_seconds", "images_per_second")
    rows = [row for event in events if isinstance(event, EpochDone) for row in event.rows]
    return [{key: row[key] for key in row if key not in timing} for row in rows]


def stops_of(events: list[Event]) -> list[ArmStopped]:
    return [event for event in events if isinstance(event, ArmStopped)]


@pytest.mark.parametrize("settings", [{}, OTHER_SETTINGS], ids=["plain", "other settings"])
def test_from_a_checkpoint_at_any_moment_exactly_the_remaining_rows_follow(
    settings: dict[str, str], cache: Path
) -> None:
    experiment = experiment_with(settings)
    undisturbed, _ = watch(experiment, cache, StopController(NEVER))
    events, kept = watch(experiment, cache, StopController(0))
    assert rows_of(events) == rows_of(undisturbed)
    splits = 2 if settings else 1
    batches = 3 if settings else 4
    assert len(kept) == 2 * (batches + splits * len(ARMS) + 1)
    for one in kept:
        before = rows_of(events[: one.events])
        later, _ = watch(experiment, cache, StopController(NEVER), {"seed-0-kd_rank": one.state})
        assert before + rows_of(later) == rows_of(undisturbed)


def test_the_start_says_where_it_goes_on_and_no_batch_is_repeated(cache: Path) -> None:
    experiment = experiment_with()
    events, kept = watch(experiment, cache, StopController(0))
    indices = [(event.epoch, event.batch) for event in events if isinstance(event, BatchDone)]
    assert indices == [(epoch, batch) for epoch in (1, 2) for batch in (1, 2, 3, 4)]
    for one in kept:
        later, _ = watch(experiment, cache, StopController(NEVER), {"seed-0-kd_rank": one.state})
        left = [(event.epoch, event.batch) for event in later if isinstance(event, BatchDone)]
        done = len(indices) - len(left)
        assert left == indices[done:]
        starts = [event for event in later if isinstance(event, StreamStarted)]
        for start in starts:
            assert 4 * start.epochs_done + start.batches_done == done
            assert [arm.name for arm in start.arms] == list(ARMS)
        assert bool(starts) == (one is not kept[-1])  # a stream that is done does nothing


def test_a_run_that_is_stopped_at_every_step_still_gives_the_same_rows(cache: Path) -> None:
    experiment = experiment_with({"seeds": "[0, 1]", "training.epochs": "1"})
    undisturbed, _ = watch(experiment, cache, StopController(NEVER))
    states: dict[str, Any] = {}
    rows: list[Row] = []
    for _ in range(2 * (4 + 1)):
        controller = StopController(NEVER)

        def ask(event: Event, controller: StopController = controller) -> None:
            controller.stop_requested |= isinstance(event, BatchDone | EpochDone)

        events, kept = watch(experiment, cache, controller, states, ask)
        assert len(kept) == [isinstance(event, StreamStarted) for event in events].count(True) == 1
        assert isinstance(events[-1], Checkpoint)
        states[events[-1].stream] = kept[0].state
        rows += rows_of(events)
    assert rows == rows_of(undisturbed)
    assert watch(experiment, cache, StopController(NEVER), states) == ([], [])


def test_whenever_the_stop_is_asked_for_it_waits_for_the_step_and_the_checkpoint(
    cache: Path,
) -> None:
    experiment = experiment_with({"training.epochs": "1"})
    undisturbed, _ = watch(experiment, cache, StopController(NEVER))
    for progress in range(len(undisturbed)):
        controller, events = StopController(NEVER), list[Event]()

        def ask(
            event: Event, controller: StopController = controller, seen: list[Event] = events
        ) -> None:
            seen.append(event)
            controller.stop_requested = len(seen) > progress  # noqa: B023

        watch(experiment, cache, controller, at_each=ask)
        assert isinstance(events[-1], Checkpoint)
        steps, asked_after = (
            sum(isinstance(event, BatchDone) for event in some)
            for some in (events, undisturbed[: progress + 1])
        )
        assert steps <= asked_after + 1
        assert not controller.is_graceful


def test_more_epochs_of_a_constant_rate_are_as_if_they_had_been_wanted_at_once(cache: Path) -> None:
    short = experiment_with({"training.schedule": "constant", "training.epochs": "1"})
    long = experiment_with({"training.schedule": "constant"})
    events, kept = watch(short, cache, StopController(NEVER))
    later, _ = watch(long, cache, StopController(NEVER), {"seed-0-kd_rank": kept[-1].state})
    assert rows_of(events) + rows_of(later) == rows_of(watch(long, cache, StopController(NEVER))[0])


@pytest.mark.parametrize("batch_size", [64, 200], ids=["in an epoch", "on a held-out split"])
def test_wherever_the_only_checkpoint_falls_a_diverging_arm_stops_once_and_in_the_same_way(
    batch_size: int, cache: Path
) -> None:
    settings = {"training.epochs": "1", "training.batch_size": str(batch_size)}
    experiment = experiment_with(settings, BAD | ARMS)
    undisturbed, _ = watch(experiment, cache, StopController(NEVER))
    (stop,) = stops_of(undisturbed)
    assert (stop.step is None) == (batch_size == 200)
    started = [isinstance(event, StreamStarted) for event in undisturbed].index(True)
    moments = [isinstance(event, BatchDone | Tick) for event in undisturbed[started:]].count(True)
    for progress in range(moments):
        controller, seen = StopController(NEVER), [0]

        def ask(
            event: Event,
            controller: StopController = controller,
            seen: list[int] = seen,
            at: int = progress,
        ) -> None:
            if controller.is_graceful and isinstance(event, BatchDone | Tick):
                controller.minutes = 0 if seen[0] == at else NEVER
                seen[0] += 1

        events, kept = watch(experiment, cache, controller, at_each=ask)
        assert len(kept) == 2  # this one, and that of the epoch
        assert rows_of(events) == rows_of(undisturbed)
        assert stops_of(events) == [stop], f"checkpoint at moment {progress} of {moments}"


def test_an_arm_that_is_no_longer_finite_is_in_no_checkpoint(cache: Path) -> None:
    experiment = experiment_with(arms=BAD | ARMS)
    undisturbed, _ = watch(experiment, cache, StopController(NEVER))
    events, kept = watch(experiment, cache, StopController(0))
    assert stops_of(events) == stops_of(undisturbed)
    assert rows_of(events) == rows_of(undisturbed)
    (stop,) = stops_of(events)
    for one in kept:
        lockstep = one.state["lockstep"]
        stopped = one.events > events.index(stop)
        assert list(lockstep["arms"]) == [*([] if stopped else BAD), *ARMS]
        assert lockstep["stopped"] == ([vars(stop)] if stopped else [])
        sums = [arm["meters"]["sums"] for arm in lockstep["arms"].values()]
        assert bool(torch.isfinite(torch.stack(sums)).all())
        later, _ = watch(experiment, cache, StopController(NEVER), {"seed-0-bad": one.state})
        assert rows_of(events[: one.events]) + rows_of(later) == rows_of(undisturbed)
        assert stops_of(later) == ([] if stopped else [stop])


def test_a_stream_whose_arms_have_all_stopped_is_done(cache: Path) -> None:
    experiment = experiment_with(arms=BAD)
    events, kept = watch(experiment, cache, StopController(0))
    assert rows_of(events) == []
    (stop,) = stops_of(events)
    assert stops_of(watch(experiment, cache, StopController(NEVER))[0]) == [stop]
    assert watch(experiment, cache, StopController(NEVER), {"seed-0-bad": kept[-1].state}) == (
        [],
        [],
    )


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("dataset.limit_test", "110", "the images of digits are not those that the run began with"),
        ("dataset.std", "[0.3]", "the images of digits are not those that the run began with"),
        ("teacher.seed", "1", "the teacher digits_teacher is not the one that the run began with"),
    ],
)
def test_other_images_or_another_teacher_than_before_are_refused_before_any_step(
    key: str, value: str, sentence: str, cache: Path
) -> None:
    _, kept = watch(experiment_with(), cache, StopController(NEVER))
    begun, events = {"seed-0-kd_rank": kept[0].state}, list[Event]()
    with pytest.raises(UserError, match=sentence):
        watch(experiment_with({key: value}), cache, StopController(0), begun, events.append)
    assert not any(isinstance(event, StreamStarted | BatchDone) for event in events)


def test_a_teacher_that_had_to_be_trained_again_is_the_same_one(
    cache: Path, tmp_path: Path
) -> None:
    experiment = experiment_with()
    events, kept = watch(experiment, cache, StopController(NEVER))
    later, _ = watch(experiment, tmp_path, StopController(NEVER), {"seed-0-kd_rank": kept[0].state})
    assert any(isinstance(event, TeacherEpoch) for event in later)
    assert rows_of(events[: kept[0].events]) + rows_of(later) == rows_of(events)


def damaged(state: dict[str, Any], what: str) -> dict[str, Any]:
    """Return the state with ``what`` ("part", or "part=value") removed or replaced."""
    part, _, value = what.partition("=")
    lockstep = state["lockstep"]
    holder = lockstep if part in lockstep else lockstep["arms"]["adamw"]
    if value:
        holder[part] = parse_value(value)
    else:
        del holder[part]
    return state


MISSING = ["epochs_done", "batches_done", "batches", "arms", "stopped", "seconds", "generators"]
ANOTHER = ["batches=5", "stopped=[{}]", "arms={}", "model={}", "optimizer={}", "meters={}"]
SENSELESS = ["generators=[]", "epochs_done='1'", "batches_done=-1", "batches_done=99"]


@pytest.mark.parametrize("what", [*MISSING, *ANOTHER, *SENSELESS])
def test_a_state_that_does_not_fit_is_refused_before_any_step(what: str, cache: Path) -> None:
    _, kept = watch(experiment_with(), cache, StopController(0))
    begun, events = {"seed-0-kd_rank": damaged(kept[2].state, what)}, list[Event]()
    with pytest.raises((RunError, UserError), match="checkpoint"):
        watch(experiment_with(), cache, StopController(NEVER), begun, events.append)
    assert not any(isinstance(event, BatchDone) for event in events)
