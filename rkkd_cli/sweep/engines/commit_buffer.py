"""Rows of jobs that run elsewhere, held back until the checkpoint after them has arrived."""

from collections.abc import Iterator, Mapping
from typing import Any

from rkkd_cli.errors import RunError
from rkkd_cli.sweep.engines.engine import job_failed
from rkkd_cli.sweep.engines.worker import serialize_state
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.train.events import (
    ArmStopped,
    BestSoFar,
    Checkpoint,
    EndedEarly,
    EpochDone,
    Event,
    JobFailed,
    Note,
)

MAX_RETRIES = 3


class CommitBuffer:
    """Releases rows only together with the checkpoint after them.

    So a job whose worker has died goes on from its last checkpoint without a lost or doubled row.
    ``states`` are the checkpoints from which jobs go on. ``keep_going`` lets the other jobs go on
    when one is given up.
    """

    def __init__(self, states: Mapping[str, Mapping[str, Any]], keep_going: bool) -> None:
        self.keep_going = keep_going
        self.states = dict(states)
        self.waiting: dict[str, list[Event]] = {}
        self.deaths: dict[str, int] = {}

    def state(self, job: Job) -> bytes | None:
        """Return the serialised state from which the job goes on."""
        state = self.states.get(job.name)
        return None if state is None else serialize_state({"lockstep": state["lockstep"]})

    def take(self, job: Job, event: Event) -> Iterator[Event]:
        """Yield what may be recorded now."""
        if isinstance(event, EpochDone | ArmStopped | EndedEarly | BestSoFar):
            self.waiting.setdefault(job.name, []).append(event)
            return
        if isinstance(event, Checkpoint):
            self.states[job.name] = event.state
            self.deaths.pop(job.name, None)
            yield from self.waiting.pop(job.name, [])
        yield event

    def died(self, job: Job, what: str) -> Iterator[Event]:
        """Forget what has no checkpoint. Yields JobFailed when the job has died too often.

        A job that gets on between two deaths is tried again and again.
        """
        self.waiting.pop(job.name, None)
        self.deaths[job.name] = self.deaths.get(job.name, 0) + 1
        if self.deaths[job.name] > MAX_RETRIES:
            yield self.failed(job, f"{what}, {MAX_RETRIES + 1} times without getting on")
        else:
            yield Note(f"{what}; {job.name} goes on from its last checkpoint")

    def may_retry(self, job: Job) -> bool:
        """Tell whether a job that has died is to be tried again."""
        return self.deaths.get(job.name, 0) <= MAX_RETRIES

    def failed(self, job: Job, reason: str) -> JobFailed:
        """Return the event of a job that is given up. Raises RunError unless others go on."""
        self.waiting.pop(job.name, None)
        if not self.keep_going:
            raise RunError(f"{job.name}: {reason}")
        return job_failed(job, reason)
