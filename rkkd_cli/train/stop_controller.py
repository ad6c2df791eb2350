"""When the training saves a checkpoint, and when it stops."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rkkd_cli.train.distributed.process_group import ProcessGroup


class Stopped(Exception):  # noqa: N818  # no error: the training has stopped on request
    """The training has stopped on request and has saved its checkpoint."""


class StopController:
    """A checkpoint after each epoch, every ``minutes`` within one, and before the training stops.

    While :meth:`graceful`, the training stops by itself after a step and its checkpoint. At other
    times there is nothing to save, and it stops between two events.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.stop_requested = False
        self.is_graceful = False
        self.last_checkpoint = time.monotonic()

    def should_checkpoint(self, epoch_over: bool) -> bool:
        """Tell, between two steps, whether to save a checkpoint now."""
        now = time.monotonic()
        minutes_are_over = now - self.last_checkpoint >= 60 * self.minutes
        is_due = epoch_over or self.stop_requested or minutes_are_over
        if is_due:
            self.last_checkpoint = now
        return is_due

    @contextmanager
    def graceful(self) -> Iterator[None]:
        """Promise that :meth:`raise_if_stopped` is called soon after each step."""
        self.is_graceful, self.last_checkpoint = True, time.monotonic()
        try:
            yield
        finally:
            self.is_graceful = False

    def raise_if_stopped_between_stages(self) -> None:
        """Raise Stopped if a stop was requested and nothing is being trained."""
        if not self.is_graceful:
            self.raise_if_stopped()

    def raise_if_stopped(self) -> None:
        """Raise Stopped if a stop was requested. Everything that matters has been saved."""
        if self.stop_requested:
            raise Stopped


class SharedStopController(StopController):
    """The controller of several ranks: all save a checkpoint and stop after the same step.

    Rank 0's clock decides, and a stop that is requested of any rank. Between two stages rank 0
    stops by itself, and the others miss it in their next collective.
    """

    def __init__(self, minutes: float, process_group: ProcessGroup) -> None:
        super().__init__(minutes)
        self.process_group, self.has_agreed_to_stop = process_group, False

    def should_checkpoint(self, epoch_over: bool) -> bool:
        """Tell, between two steps, whether to save a checkpoint now. All ranks call this."""
        is_due = super().should_checkpoint(epoch_over) and self.process_group.is_first
        is_due, self.has_agreed_to_stop = self.process_group.any(is_due, self.stop_requested)
        return is_due or self.has_agreed_to_stop

    def raise_if_stopped_between_stages(self) -> None:
        """Raise Stopped if a stop was requested of rank 0 and nothing is being trained."""
        if not self.is_graceful and self.process_group.is_first:
            super().raise_if_stopped()

    def raise_if_stopped(self) -> None:
        """Raise Stopped if all ranks have agreed to stop."""
        if self.has_agreed_to_stop:
            raise Stopped
