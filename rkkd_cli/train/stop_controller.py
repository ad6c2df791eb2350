"""When the training writes a checkpoint, and when it leaves off."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rkkd_cli.train.distributed.process_group import ProcessGroup


class Stopped(Exception):  # noqa: N818  # no error: the training has left off as it was asked to
    """The training was asked to stop and has written its checkpoint."""


class StopController:
    """A checkpoint after each epoch, every ``minutes`` within one, and before leaving.

    While :meth:`graceful`, whoever trains leaves by itself after a step and its checkpoint; at
    other times there is nothing to be kept, and the training is left between two events.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.stop_requested = False
        self.is_graceful = False
        self.last = time.monotonic()

    def should_checkpoint(self, epoch_over: bool) -> bool:
        """Tell, between two steps, whether a checkpoint is to be written now."""
        now = time.monotonic()
        is_due = epoch_over or self.stop_requested or now - self.last >= 60 * self.minutes
        if is_due:
            self.last = now
        return is_due

    @contextmanager
    def graceful(self) -> Iterator[None]:
        """Promise that :meth:`raise_if_stopped` is called soon after each step."""
        self.is_graceful, self.last = True, time.monotonic()
        try:
            yield
        finally:
            self.is_graceful = False

    def raise_if_stopped_between_stages(self) -> None:
        """Raise Stopped if somebody asked for it and nothing is being trained."""
        if not self.is_graceful:
            self.raise_if_stopped()

    def raise_if_stopped(self) -> None:
        """Raise Stopped if somebody asked for it; everything that matters has been kept."""
        if self.stop_requested:
            raise Stopped


class SharedStopController(StopController):
    """The pace of several ranks: all keep their checkpoint, and leave, after the same step.

    The first rank's clock counts, and a stop that is asked of any. Between two stages the first
    leaves by itself; the others are told so.
    """

    def __init__(self, minutes: float, process_group: ProcessGroup) -> None:
        super().__init__(minutes)
        self.process_group, self.has_agreed_to_stop = process_group, False

    def should_checkpoint(self, epoch_over: bool) -> bool:
        """Tell, between two steps, whether a checkpoint is to be written now; all ranks ask."""
        own = super().should_checkpoint(epoch_over) and self.process_group.is_first
        is_due, self.has_agreed_to_stop = self.process_group.any(own, self.stop_requested)
        return is_due or self.has_agreed_to_stop

    def raise_if_stopped_between_stages(self) -> None:
        """Raise Stopped if the first rank was asked to and nothing is being trained."""
        if not self.is_graceful and self.process_group.is_first:
            super().raise_if_stopped()

    def raise_if_stopped(self) -> None:
        """Raise Stopped if all ranks have agreed to."""
        if self.has_agreed_to_stop:
            raise Stopped
