"""How much of a run is done, and how long the rest takes."""

import heapq
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.sweep.recording.run_state import Work
from rkkd_cli.train.events import (
    ArmStopped,
    BatchDone,
    EndedEarly,
    EpochDone,
    Event,
    JobFailed,
    StreamStarted,
    TeacherBatch,
    TeacherEpoch,
    TeacherReady,
)


class Countdown:
    """The time that a count takes to its end, at the pace since the first :meth:`reach`."""

    def __init__(self) -> None:
        self.first: tuple[float, float] | None = None
        self.seconds = self.done = 0.0

    def reach(self, done: float) -> None:
        """Take the time at which the count is ``done``."""
        now = time.monotonic()
        self.first = self.first or (now, done)
        self.seconds, self.done = now - self.first[0], done

    def seconds_left(self, total: float) -> float | None:
        """Return the time to ``total``, or None before there is a pace."""
        counted = self.done - self.first[1] if self.first else 0.0
        return self.seconds * (total - self.done) / counted if counted > 0 else None


class RunProgress:
    """Counts epochs of single arms: those that are left, and those trained since the start.

    An epoch of an arm that is left counts as much time as one that was trained, on average. As many
    streams go on side by side as have done so far. The training of a ``teacher`` counts by itself.
    """

    def __init__(self, jobs: Iterable[tuple[Job, Mapping[str, Any] | None]], total: int) -> None:
        self.left = {job.name: _epochs_left(job, state) for job, state in jobs}
        self.total, self.trained = total, 0.0
        self.streams: dict[str, StreamStarted] = {}
        self.begun: dict[str, float] = {}  # of the streams that are training: when
        self.seconds, self.side_by_side = 0.0, 1
        self.teacher = Countdown()

    @classmethod
    def of(cls, work: Work, experiment: Experiment) -> "RunProgress":
        """Return the progress of a run with this work left."""
        epochs = sum(arm.experiment.training.epochs for arm in experiment.resolved_arms)
        jobs = ((job, work.states.get(job.name)) for job in work.jobs)
        return cls(jobs, epochs * len(experiment.seeds))

    def take(self, event: Event) -> None:
        """Count what the event says."""
        match event:
            case StreamStarted(stream=stream):
                done = event.epochs_done + event.batches_done / event.batches
                self.left[stream] = {arm.name: event.epochs - done for arm in event.arms}
                self.streams[stream] = event
                self.begun[stream] = time.monotonic()
                self.side_by_side = max(self.side_by_side, len(self.begun))
            case BatchDone(stream, epoch, batch):
                self._reach(stream, epoch - 1 + batch / self.streams[stream].batches)
            case EpochDone(stream=stream, epoch=epoch):
                self._reach(stream, epoch)
                if not any(self.left[stream].values()):
                    self._end(stream)
            case ArmStopped(stream=stream, arm=arm) | EndedEarly(stream=stream, arm=arm):
                self.left[stream].pop(arm, None)
            case JobFailed(stream=stream):
                self.left.pop(stream, None)
                self._end(stream)
            case TeacherBatch(epoch, _, batch, batches):
                self.teacher.reach(epoch - 1 + batch / batches)
            case TeacherEpoch(epoch=epoch):
                self.teacher.reach(epoch)
            case TeacherReady():
                self.teacher = Countdown()

    def _reach(self, stream: str, epochs_done: float) -> None:
        left = self.streams[stream].epochs - epochs_done
        for arm, before in self.left[stream].items():
            self.trained += before - left
            self.left[stream][arm] = left

    def _end(self, stream: str) -> None:
        if stream in self.begun:
            self.seconds += time.monotonic() - self.begun.pop(stream)

    @property
    def share_done(self) -> float:
        """The share of all epochs of the run that needs no more training."""
        left = sum(sum(arms.values()) for arms in self.left.values())
        return 1 - left / self.total if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The time that the rest takes, or None before anything was trained."""
        if not self.trained:
            return None
        now = time.monotonic()
        seconds = self.seconds + sum(now - begun for begun in self.begun.values())
        busy_until = [0.0] * self.side_by_side
        for arms in self.left.values():
            duration = sum(arms.values()) * seconds / self.trained
            heapq.heapreplace(busy_until, busy_until[0] + duration)
        return max(busy_until)


def _epochs_left(job: Job, state: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the epochs that each arm of a job still trains, from its state."""
    epochs = job.experiment.training.epochs
    if state is None:
        return {arm.name: epochs for arm in job.arms}
    lockstep = state["lockstep"]
    left = epochs - lockstep["epochs_done"] - lockstep["batches_done"] / lockstep["batches"]
    return dict.fromkeys(lockstep["arms"], left)


def time_left(seconds: float | None) -> str:
    """Return a time such as ``26:03:09 left``; nothing if it is not known, or over."""
    if not seconds:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} left"
