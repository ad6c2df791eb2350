"""What the command line says of where jobs run."""

from dataclasses import dataclass

from rkkd_cli.errors import UserError, unknown_name

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Placing:
    """An engine and what it is told."""

    engine: str = "local"
    workers: int | None = None
    address: str | None = None
    gpus_per_job: float | None = None
    cpus_per_job: int | None = None

    def check(self, several_ranks: bool = False) -> None:
        """Raise UserError for an unknown engine, or for flags that it does not heed.

        Several ranks have been placed already, by torchrun.
        """
        if self.engine not in ENGINES:
            raise unknown_name("engine", self.engine, ENGINES)
        if several_ranks and (self.engine != "local" or self.workers not in (None, 1)):
            raise UserError(
                "under torchrun all ranks train each job together; leave --engine and --workers "
                "away, or start rkkd without torchrun"
            )
        given = [
            f"--{name.replace('_', '-')}"
            for name in ("address", "gpus_per_job", "cpus_per_job")
            if getattr(self, name) is not None
        ]
        if given and self.engine != "ray":
            raise UserError(
                f"{given[0]} is heeded by --engine ray alone; add that, or leave it away"
            )
