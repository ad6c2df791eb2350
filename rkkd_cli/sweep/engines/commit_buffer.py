"""Rows of jobs that run elsewhere, held back until the checkpoint after them has arrived."""

from collections.abc import Iterator, Mapping
from typing import Any

from rkkd_cli.errors import RunError
from rkkd_cli.sweep.engines.engine import job_failed
from rkkd_cli.sweep.engines.worker import serialize_state
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.train.events import (
    ArmStopped,
    Checkpoint,
    Detected,
    EndedEarly,
    EpochDone,
    Event,
    JobFailed,
    Note,
    Retrieved,
    StudentWeights,
)

MAX_RETRIES = 3


KEPT_UNTIL_A_CHECKPOINT = (
    EpochDone | ArmStopped | EndedEarly | StudentWeights | Retrieved | Detected
)


class CommitBuffer:
    """Releases rows only together with the checkpoint after them.

    So a job whose worker has died resumes from its last checkpoint, and no row is lost or doubled.
    ``states`` are the checkpoints from which jobs resume. With ``keep_going`` the other jobs
    continue when one is given up.
    """

    def __init__(self, states: Mapping[str, Mapping[str, Any]], keep_going: bool) -> None:
        self.keep_going = keep_going
        self.states = dict(states)
        self.pending: dict[str, list[Event]] = {}
        self.deaths: dict[str, int] = {}

    def state(self, job: Job) -> bytes | None:
        """Return the serialised state from which the job resumes."""
        state = self.states.get(job.name)
        return None if state is None else serialize_state({"lockstep": state["lockstep"]})

    def take(self, job: Job, event: Event) -> Iterator[Event]:
        """Yield what may be recorded now."""
        if isinstance(event, KEPT_UNTIL_A_CHECKPOINT):
            self.pending.setdefault(job.name, []).append(event)
            return
        if isinstance(event, Checkpoint):
            self.states[job.name] = event.state
            self.deaths.pop(job.name, None)
            yield from self.pending.pop(job.name, [])
        yield event

    def handle_death(self, job: Job, reason: str) -> Iterator[Event]:
        """Drop the events without a checkpoint. Yields JobFailed if workers die too often.

        Only deaths without a checkpoint between them count.
        """
        self.pending.pop(job.name, None)
        self.deaths[job.name] = self.deaths.get(job.name, 0) + 1
        if self.deaths[job.name] > MAX_RETRIES:
            yield self.give_up(job, f"{reason}, {MAX_RETRIES + 1} times without progress")
        else:
            yield Note(f"{reason}; {job.name} goes on from its last checkpoint")

    def may_retry(self, job: Job) -> bool:
        """Tell whether a job whose worker has died is to be tried again."""
        return self.deaths.get(job.name, 0) <= MAX_RETRIES

    def give_up(self, job: Job, reason: str) -> JobFailed:
        """Return the event of a job that is given up. Raises RunError without ``keep_going``."""
        self.pending.pop(job.name, None)
        if not self.keep_going:
            raise RunError(f"{job.name}: {reason}")
        return job_failed(job, reason)
