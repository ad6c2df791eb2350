"""A stream that is left at any moment and gone on with gives exactly the remaining rows."""

from pathlib import Path
from typing import Any

import pytest
import torch
import trained
from trained import DIVERGING, NEVER, Arms, Row, checkpoints_of, events_of, going_on, rows_of

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import parse_value
from rkkd_cli.errors import RunError, UserError
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
from rkkd_cli.train.stop_controller import StopController

OTHER_SETTINGS = (
    "precision=bf16", "dataset.val_share=0.2", "dataset.flip=true", "dataset.crop_padding=1",
    "training.warmup_epochs=1.0",
)  # fmt: skip
CLIPPED = {"optimizer": "adam", "clip_grad_norm": 0.1, "norm_bias_decay": False, "ema_decay": 0.8}
ARMS: Arms = {
    "kd_rank": {"rank": {"grad": True}, "training": CLIPPED},
    "adamw": {"training": {"optimizer": "adamw", "lr": 0.01}, "student": {"model": "cnn2"}},
}


def experiment_with(*overrides: str, arms: Arms = ARMS) -> Experiment:
    return trained.experiment_with("teacher.training.epochs=1", *overrides, arms=arms)


def with_all_checkpoints(experiment: Experiment, cache: Path) -> list[Event]:
    return events_of(experiment, cache, controller=StopController(0))


def stops_of(events: list[Event]) -> list[ArmStopped]:
    return [event for event in events if isinstance(event, ArmStopped)]


@pytest.mark.parametrize("settings", [(), OTHER_SETTINGS], ids=["plain", "other settings"])
def test_from_a_checkpoint_at_any_moment_exactly_the_remaining_rows_follow(
    settings: tuple[str, ...], cache: Path
) -> None:
    experiment = experiment_with(*settings)
    undisturbed = rows_of(events_of(experiment, cache))
    events = with_all_checkpoints(experiment, cache)
    assert rows_of(events) == undisturbed
    splits = 2 if settings else 1
    batches = 3 if settings else 4
    evaluated = len(ARMS) + 1  # the moving average of one
    assert len(checkpoints_of(events)) == 2 * (batches + splits * evaluated + 1)
    for place, checkpoint in checkpoints_of(events):
        later = events_of(experiment, cache, going_on(checkpoint))
        assert rows_of(events[:place]) + rows_of(later) == undisturbed


def test_the_start_says_where_it_goes_on_and_no_batch_is_repeated(cache: Path) -> None:
    experiment = experiment_with()
    events = with_all_checkpoints(experiment, cache)
    indices = [(event.epoch, event.batch) for event in events if isinstance(event, BatchDone)]
    assert indices == [(epoch, batch) for epoch in (1, 2) for batch in (1, 2, 3, 4)]
    for place, checkpoint in checkpoints_of(events):
        later = events_of(experiment, cache, going_on(checkpoint))
        left = [(event.epoch, event.batch) for event in later if isinstance(event, BatchDone)]
        done = len(indices) - len(left)
        assert left == indices[done:]
        starts = [event for event in later if isinstance(event, StreamStarted)]
        for start in starts:
            assert 4 * start.epochs_done + start.batches_done == done
            assert [arm.name for arm in start.arms] == list(ARMS)
        is_last = place == len(events) - 1
        assert bool(starts) != is_last  # a stream that is done does nothing


def test_a_run_that_is_stopped_at_every_step_still_gives_the_same_rows(cache: Path) -> None:
    experiment = experiment_with("seeds=[0,1]", "training.epochs=1")
    states: dict[str, Any] = {}

    def a_step() -> list[Event]:
        controller = StopController(NEVER)

        def ask(event: Event) -> None:
            controller.stop_requested |= isinstance(event, BatchDone | EpochDone)

        return events_of(experiment, cache, states, controller, ask)

    rows: list[Row] = []
    for _ in range(2 * (4 + 1)):
        events = a_step()
        ((place, checkpoint),) = checkpoints_of(events)
        assert [isinstance(event, StreamStarted) for event in events].count(True) == 1
        assert place == len(events) - 1
        states |= going_on(checkpoint)
        rows += rows_of(events)
    assert rows == rows_of(events_of(experiment, cache))
    assert events_of(experiment, cache, states) == []


def test_whenever_the_stop_is_asked_for_it_waits_for_the_step_and_the_checkpoint(
    cache: Path,
) -> None:
    experiment = experiment_with("training.epochs=1")

    def stopped_at(moment: int) -> list[Event]:
        controller, seen = StopController(NEVER), list[Event]()

        def ask(event: Event) -> None:
            seen.append(event)
            controller.stop_requested = len(seen) > moment

        events_of(experiment, cache, controller=controller, at_each=ask)
        assert not controller.is_graceful
        return seen

    undisturbed = events_of(experiment, cache)
    for moment in range(len(undisturbed)):
        events = stopped_at(moment)
        assert isinstance(events[-1], Checkpoint)
        steps, asked_after = (
            sum(isinstance(event, BatchDone) for event in some)
            for some in (events, undisturbed[: moment + 1])
        )
        assert steps <= asked_after + 1


def test_more_epochs_of_a_constant_rate_are_as_if_they_had_been_wanted_at_once(cache: Path) -> None:
    short = experiment_with("training.schedule=constant", "training.epochs=1")
    long = experiment_with("training.schedule=constant")
    events = events_of(short, cache)
    later = events_of(long, cache, going_on(checkpoints_of(events)[-1][1]))
    assert rows_of(events) + rows_of(later) == rows_of(events_of(long, cache))


@pytest.mark.parametrize("batch_size", [64, 200], ids=["in an epoch", "on a held-out split"])
def test_wherever_the_only_checkpoint_falls_a_diverging_arm_stops_once_and_in_the_same_way(
    batch_size: int, cache: Path
) -> None:
    words = ("training.epochs=1", f"training.batch_size={batch_size}")
    experiment = experiment_with(*words, arms={**DIVERGING, **ARMS})

    def kept_at(moment: int) -> list[Event]:
        controller, seen = StopController(NEVER), 0

        def ask(event: Event) -> None:
            nonlocal seen
            if controller.is_graceful and isinstance(event, BatchDone | Tick):
                controller.minutes = 0 if seen == moment else NEVER
                seen += 1

        return events_of(experiment, cache, controller=controller, at_each=ask)

    undisturbed = events_of(experiment, cache)
    (stop,) = stops_of(undisturbed)
    assert (stop.step is None) == (batch_size == 200)
    started = [isinstance(event, StreamStarted) for event in undisturbed].index(True)
    moments = [isinstance(event, BatchDone | Tick) for event in undisturbed[started:]].count(True)
    for moment in range(moments):
        events = kept_at(moment)
        assert len(checkpoints_of(events)) == 2  # this one, and that of the epoch
        assert rows_of(events) == rows_of(undisturbed)
        assert stops_of(events) == [stop], f"checkpoint at moment {moment} of {moments}"


def test_an_arm_that_is_no_longer_finite_is_in_no_checkpoint(cache: Path) -> None:
    experiment = experiment_with(arms={**DIVERGING, **ARMS})
    undisturbed = events_of(experiment, cache)
    events = with_all_checkpoints(experiment, cache)
    assert stops_of(events) == stops_of(undisturbed)
    assert rows_of(events) == rows_of(undisturbed)
    (stop,) = stops_of(events)
    for place, checkpoint in checkpoints_of(events):
        lockstep = checkpoint.state["lockstep"]
        stopped = place > events.index(stop)
        assert list(lockstep["arms"]) == [*([] if stopped else DIVERGING), *ARMS]
        assert lockstep["stopped"] == ([vars(stop)] if stopped else [])
        sums = [arm["meters"]["sums"] for arm in lockstep["arms"].values()]
        assert bool(torch.isfinite(torch.stack(sums)).all())
        later = events_of(experiment, cache, going_on(checkpoint))
        assert rows_of(events[:place]) + rows_of(later) == rows_of(undisturbed)
        assert stops_of(later) == ([] if stopped else [stop])


def test_a_stream_whose_arms_have_all_stopped_is_done(cache: Path) -> None:
    experiment = experiment_with(arms=DIVERGING)
    events = with_all_checkpoints(experiment, cache)
    assert rows_of(events) == []
    (stop,) = stops_of(events)
    assert stops_of(events_of(experiment, cache)) == [stop]
    assert events_of(experiment, cache, going_on(checkpoints_of(events)[-1][1])) == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ("dataset.limit_test=110", "the images of digits are not those that the run began with"),
        ("dataset.std=[0.3]", "the images of digits are not those that the run began with"),
        ("teacher.seed=1", "the teacher digits_teacher is not the one that the run began with"),
    ],
)
def test_other_images_or_another_teacher_than_before_are_refused_before_any_step(
    changed: str, sentence: str, cache: Path
) -> None:
    begun = going_on(checkpoints_of(events_of(experiment_with(), cache))[0][1])
    events: list[Event] = []
    with pytest.raises(UserError, match=sentence):
        events_of(experiment_with(changed), cache, begun, StopController(0), events.append)
    assert not any(isinstance(event, StreamStarted | BatchDone) for event in events)


def test_a_teacher_that_had_to_be_trained_again_is_the_same_one(
    cache: Path, tmp_path: Path
) -> None:
    experiment = experiment_with()
    events = events_of(experiment, cache)
    place, checkpoint = checkpoints_of(events)[0]
    later = events_of(experiment, tmp_path, going_on(checkpoint))
    assert any(isinstance(event, TeacherEpoch) for event in later)
    assert rows_of(events[:place]) + rows_of(later) == rows_of(events)


def damage(state: dict[str, Any], what: str) -> None:
    """Remove or replace ``what`` ("part", or "part=value")."""
    part, _, value = what.partition("=")
    lockstep = state["lockstep"]
    holder = lockstep if part in lockstep else lockstep["arms"]["adamw"]
    if value:
        holder[part] = parse_value(value)
    else:
        del holder[part]


MISSING = ["epochs_done", "batches_done", "batches", "arms", "stopped", "seconds", "generators"]
ANOTHER = ["batches=5", "stopped=[{}]", "arms={}", "model={}", "optimizer={}", "meters={}"]
SENSELESS = ["generators=[]", "epochs_done='1'", "batches_done=-1", "batches_done=99"]


@pytest.fixture(scope="module")
def third(cache: Path) -> Checkpoint:
    """The third checkpoint, within an epoch."""
    return checkpoints_of(with_all_checkpoints(experiment_with(), cache))[2][1]


@pytest.mark.parametrize("what", [*MISSING, *ANOTHER, *SENSELESS])
def test_a_state_that_does_not_fit_is_refused_before_any_step(
    what: str, third: Checkpoint, cache: Path
) -> None:
    begun, events = going_on(third), list[Event]()
    damage(begun["seed-0-kd_rank"], what)
    with pytest.raises((RunError, UserError), match="checkpoint"):
        events_of(experiment_with(), cache, begun, at_each=events.append)
    assert not any(isinstance(event, BatchDone) for event in events)
