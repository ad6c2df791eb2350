"""Which engine places the jobs of a grid, and how many cells each job has."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.sweep.estimate import most_arms_here
from rkkd_cli.sweep.local import Engine, run_jobs
from rkkd_cli.train.device import pick_device


@dataclass(frozen=True)
class Place:
    """An engine, how many jobs it runs at once, and the CPU threads of each (None: all)."""

    engine: Engine
    at_once: int
    threads: int | None = None


def make_place(workers: int | None, keep_going: bool) -> Place:
    """Return where the jobs run: in this process, or in several."""
    if workers is None or workers == 1:
        return Place(_here(keep_going), 1)
    from rkkd_cli.sweep.workers import on_workers

    return Place(on_workers(workers, keep_going), workers, max(1, (os.cpu_count() or 1) // workers))


def _here(keep_going: bool) -> Engine:
    return lambda begun, device, cache, pace, jobs: run_jobs(
        begun, device, cache, pace, jobs, keep_going
    )


def cells_per_job(
    experiment: Experiment, place: Place, limit: int | None
) -> Callable[[tuple[Arm, ...]], int]:
    """Return how many of some arms go into one job.

    As many as fit into memory, at most ``limit``; fewer where there would be fewer jobs than
    places, as a seed's stream can be shared out.
    """
    fit = most_arms_here(pick_device(experiment.device), limit)

    def most_arms(arms: tuple[Arm, ...]) -> int:
        parts = -(-place.at_once // len(experiment.seeds))
        return min(max(1, fit(arms) // place.at_once), -(-len(arms) // parts))

    return most_arms
