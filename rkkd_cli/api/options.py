"""How a run is carried out: where its jobs compute, its checkpoints, its loggers. No torch.

No number depends on any of it.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from rkkd_cli.errors import UserError


class ChosenLoggers(NamedTuple):
    """The names of the loggers, the project of W&B, and the user's tags."""

    names: tuple[str, ...] = ()
    project: str | None = None
    tags: tuple[str, ...] = ()


NO_LOGGERS = ChosenLoggers()


@dataclass(frozen=True)
class RunOptions:
    """What of a run is kept and drawn, and what a failure does.

    ``minutes``: time between checkpoints within an epoch.
    ``loggers``: further loggers beside metrics.csv.
    ``figures``: draw the run's figures at its end.
    ``retry_failed``: train again the arms that failed before.
    ``fail_fast``: end the run at the first arm or job that fails.
    ``fit_memory``: a job gets as many arms as fit into memory, at most ``cells_per_job``. Otherwise
    it gets all arms of a stream.
    ``published``: file or preset of the published values that a grid is compared with.
    ``accept_changed_code``: continue although code of the user's has changed.
    """

    minutes: float = 10.0
    loggers: ChosenLoggers = NO_LOGGERS
    figures: bool = True
    retry_failed: bool = False
    fail_fast: bool = False
    fit_memory: bool = False
    cells_per_job: int | None = None
    published: str | None = None
    accept_changed_code: bool = False


@dataclass(frozen=True)
class EngineOptions:
    """The engine that runs the jobs: this process, ``workers`` processes, or a Ray cluster."""

    engine: str = "local"
    workers: int | None = None
    address: str | None = None
    gpus_per_job: float | None = None
    cpus_per_job: int | None = None

    def check(self, several_ranks: bool = False, profile: bool = False) -> None:
        """Raise UserError for flags that the engine does not heed.

        With ``several_ranks``, torchrun has placed the processes already.
        """
        trains_elsewhere = self.engine != "local" or self.workers not in (None, 1)
        if several_ranks and trains_elsewhere:
            raise UserError(
                "under torchrun all ranks train each job together; leave --engine and --workers "
                "away, or start rkkd without torchrun"
            )
        if profile and trains_elsewhere:
            raise UserError(
                "--profile watches the steps of this process alone; leave --engine and --workers "
                "away"
            )
        if self.engine == "ray":
            return
        for name in ("address", "gpus_per_job", "cpus_per_job"):
            if getattr(self, name) is not None:
                raise UserError(
                    f"--{name.replace('_', '-')} is heeded by --engine ray alone; add that, or "
                    "leave it away"
                )

    def at_most(self, jobs: int) -> Self:
        """Return the options for a run of so many jobs, which keep no more workers busy."""
        return self if self.workers is None else replace(self, workers=min(self.workers, jobs))
