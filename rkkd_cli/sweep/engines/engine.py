"""The interface of engines. An engine decides where the jobs of a run compute."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from rkkd_cli.config.arms import Arm
from rkkd_cli.sweep.estimate import job_memory
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.sweep.recording.run_state import Work
from rkkd_cli.train.events import Event, JobFailed
from rkkd_cli.train.runtime import Runtime


class Engine(Protocol):
    """Where jobs run, and how many at once."""

    @property
    def jobs_at_once(self) -> int:
        """How many jobs run at once."""

    @property
    def threads(self) -> int | None:
        """The CPU threads of a job whose experiment sets none; None for all cores."""

    def device(self, name: str) -> torch.device:
        """Return the device of an experiment's ``device`` setting. Raises UserError."""

    def free_memory(self, device: torch.device) -> int:
        """Return the free bytes for each job."""

    def run(self, work: Work, runtime: Runtime) -> Iterator[Event]:
        """Yield all events until the work is done.

        Raises Stopped if the runtime's controller was asked to stop, RunError if a job fails and
        the others are not to continue.
        """


@dataclass(frozen=True)
class JobSize:
    """How many arms one job may have: as many as fit into memory, at most ``limit``.

    Fewer if that keeps all the jobs that run at once busy.
    """

    engine: Engine
    device: torch.device
    seeds: int
    limit: int | None = None

    def max_arms(self, arms: Sequence[Arm]) -> int:
        """Return how many of these arms of a stream go into one job."""
        parts = -(-self.engine.jobs_at_once // self.seeds)
        fit = job_memory(arms).max_arms(self.engine.free_memory(self.device))
        return min(fit, self.limit or fit, -(-len(arms) // parts))


def job_failed(job: Job, reason: str) -> JobFailed:
    """Return the event of a job that is given up."""
    return JobFailed(job.name, job.seed, tuple(arm.name for arm in job.arms), reason)
