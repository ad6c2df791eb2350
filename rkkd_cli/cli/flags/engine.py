"""The flags that say where the jobs of a run train."""

from dataclasses import dataclass, replace
from typing import Self

from rkkd_cli.cli.flags.flag import Bundle, Flag
from rkkd_cli.errors import UserError

PLACE = "Where the jobs run"
ENGINES = ("local", "ray")

# fmt: off
ENGINE = Flag("engine", str, panel=PLACE, default="local", choices=ENGINES,
    help="Run the jobs on this machine or on a Ray cluster (needs rkkd\\[ray]). A job is a seed "
         "with its arms.")
WORKERS = Flag("workers", int | None, panel=PLACE, min=1,
    help="Local processes, each with a GPU of its own if there are; with --engine ray, the most "
         "jobs at once.")
ADDRESS = Flag("address", str | None, panel=PLACE, metavar="HOST:PORT|auto",
    help="The Ray cluster; default: RAY_ADDRESS, else one is started on this machine.")
GPUS_PER_JOB = Flag("gpus_per_job", float | None, panel=PLACE, min=0,
    help="GPUs of each job on the cluster; default: 1 where it has any and --device is not cpu, "
         "else 0.")
CPUS_PER_JOB = Flag("cpus_per_job", int | None, panel=PLACE, min=1,
    help="CPUs, and threads, of each job on the cluster; default: the experiment's threads, or 1.")
# fmt: on


@dataclass(frozen=True)
class EngineOptions:
    """The engine that runs the jobs, and what the command line says of it."""

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
        for flag in (ADDRESS, GPUS_PER_JOB, CPUS_PER_JOB):
            if getattr(self, flag.name) is not None:
                raise UserError(
                    f"{flag.option_names[0]} is heeded by --engine ray alone; add that, or leave "
                    "it away"
                )

    def at_most(self, jobs: int) -> Self:
        """Return the options for a run of so many jobs, which keep no more workers busy."""
        return self if self.workers is None else replace(self, workers=min(self.workers, jobs))


ENGINE_OPTIONS = Bundle(
    "engine_options", (ENGINE, WORKERS, ADDRESS, GPUS_PER_JOB, CPUS_PER_JOB), EngineOptions
)
