"""What a recording process knows of jobs that run elsewhere: their states, and rows in waiting."""

from collections.abc import Iterator, Mapping
from typing import Any

from rkkd_cli.errors import RunError
from rkkd_cli.sweep.engines.worker import pack_state
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.sweep.recording.run_state import Begun
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

MOST_RETRIES = 3


class Ledger:
    """Lets rows through only together with the checkpoint after them.

    So a job whose worker has died goes on from its last checkpoint without a lost or doubled row.
    ``keep_going`` lets the other jobs go on when one is given up.
    """

    def __init__(self, begun: Begun, keep_going: bool) -> None:
        self.keep_going = keep_going
        self.states: dict[str, Mapping[str, Any]] = dict(begun.states)
        self.waiting: dict[str, list[Event]] = {}
        self.deaths: dict[str, int] = {}

    def state(self, job: Job) -> bytes | None:
        """Return the state from which the job goes on."""
        state = self.states.get(job.name)
        return None if state is None else pack_state({"lockstep": state["lockstep"]})

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
        if self.deaths[job.name] > MOST_RETRIES:
            yield self.failed(job, f"{what}, {MOST_RETRIES + 1} times without getting on")
        else:
            yield Note(f"{what}; {job.name} goes on from its last checkpoint")

    def may_retry(self, job: Job) -> bool:
        """Tell whether a job that has died is to be tried again."""
        return self.deaths.get(job.name, 0) <= MOST_RETRIES

    def failed(self, job: Job, reason: str) -> JobFailed:
        """Return the event of a job that is given up. Raises RunError unless others go on."""
        self.waiting.pop(job.name, None)
        if not self.keep_going:
            raise RunError(f"{job.name}: {reason}")
        return JobFailed(job.name, job.seed, tuple(arm.name for arm in job.arms), reason)
