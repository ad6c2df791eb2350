"""When a checkpoint is due, when the training leaves, and where a stream goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from clock import Clock
from trained import CPU

from rkkd_cli.data.catalogue import DatasetRequest
from rkkd_cli.data.reading import load_dataset
from rkkd_cli.data.stream import Stream
from rkkd_cli.train.stop_controller import StopController, Stopped


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("rkkd_cli.train.stop_controller.time", clock)
    return clock


def test_within_an_epoch_a_checkpoint_is_due_once_the_minutes_are_over(clock: Clock) -> None:
    controller = StopController(minutes=2)
    assert not controller.should_checkpoint(epoch_over=False)
    clock.sleep(120)
    due = [controller.should_checkpoint(epoch_over=False) for _ in range(3)]
    assert due == [True, False, False]
    clock.sleep(90)
    assert controller.should_checkpoint(epoch_over=True)
    clock.sleep(60)  # the epoch's checkpoint began the minutes anew
    assert not controller.should_checkpoint(epoch_over=False)
    clock.sleep(60)
    assert controller.should_checkpoint(epoch_over=False)


def test_the_minutes_begin_with_the_training_and_not_with_what_comes_before(clock: Clock) -> None:
    controller = StopController(minutes=2)
    clock.sleep(150)
    with controller.graceful():
        assert not controller.should_checkpoint(epoch_over=False)


@pytest.mark.parametrize("minutes", [0, 1e-9, 1e9, float("inf")])
def test_after_an_epoch_and_before_leaving_a_checkpoint_is_always_due(minutes: float) -> None:
    controller = StopController(minutes)
    assert controller.should_checkpoint(epoch_over=True)
    assert controller.should_checkpoint(epoch_over=False) == (minutes < 1)
    controller.stop_requested = True
    assert all(controller.should_checkpoint(epoch_over=over) for over in (False, True, False))


def test_it_leaves_only_if_asked() -> None:
    controller = StopController(0)
    controller.raise_if_stopped()
    controller.stop_requested = True
    with pytest.raises(Stopped):
        controller.raise_if_stopped()


def test_however_the_training_ends_a_stop_waits_no_longer() -> None:
    controller = StopController(0)

    def training() -> Iterator[bool]:
        with controller.graceful():
            yield controller.is_graceful
            raise RuntimeError("a step failed")

    steps = training()
    assert next(steps)
    with pytest.raises(RuntimeError, match="a step failed"):
        next(steps)
    assert not controller.is_graceful
    abandoned = training()
    assert next(abandoned)
    abandoned.close()  # type: ignore[attr-defined]
    assert not controller.is_graceful


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("epoch", [1, 3])
def test_leaving_batches_out_changes_nothing_about_the_others(epoch: int, flip: bool) -> None:
    request = DatasetRequest("digits", limit_train=200, limit_test=100, crop_padding=2, flip=flip)
    stream = Stream(load_dataset(request, Path("unused")), CPU, batch_size=64, seed=5)
    whole = list(stream.epoch(epoch))
    assert [len(batch.labels) for batch in whole] == [64, 64, 64, 8]
    for skip in range(len(stream) + 1):
        torch.rand(3)
        left = list(stream.epoch(epoch, skip=skip))
        assert len(left) == len(whole) - skip
        for batch, wanted in zip(left, whole[skip:], strict=True):
            assert torch.equal(batch.images, wanted.images)
            assert torch.equal(batch.labels, wanted.labels)
