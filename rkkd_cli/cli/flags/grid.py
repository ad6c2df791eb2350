"""The flags of ``rkkd grid`` beside those of every command that trains.

``Placing`` holds those that say where jobs run, and checks that they go together.
"""

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from rkkd_cli.cli.flags import keys
from rkkd_cli.errors import UserError, unknown_name

VARY, CELLS, PLACE = "What to vary", "Which cells", "Where the jobs run"
ENGINES = ("local", "ray")
VALUES = "0.1,0.25 or 0.1:0.9:0.2 or log:1:50:6"

Alpha = Annotated[
    str | None,
    Option(metavar="VALUES", help=f"Values of method.alpha: {VALUES}.", rich_help_panel=VARY),
]
Temperature = Annotated[
    str | None, Option(metavar="VALUES", help="Values of method.temperature.", rich_help_panel=VARY)
]
Vary = Annotated[
    list[str] | None,
    Option(
        metavar="KEY=VALUES",
        help="Values of any other key of an experiment, such as training.lr=0.1,0.05; may be "
        "given again and again.",
        rich_help_panel=VARY,
    ),
]
Sample = Annotated[
    int | None,
    Option(metavar="N", help="Train only N cells of the product.", rich_help_panel=CELLS),
]
Sampler = Annotated[str, Option(metavar="random|sobol", help="Which ones.", rich_help_panel=CELLS)]
SampleSeed = Annotated[int, Option(min=0, help="The sampler's seed.", rich_help_panel=CELLS)]
Yes = Annotated[bool, Option("--yes", help="Allow more than 1,000 cells.", rich_help_panel=CELLS)]
RetryFailed = Annotated[
    bool, Option("--retry-failed", help="Train the failed cells again.", rich_help_panel=CELLS)
]
FailFast = Annotated[
    bool,
    Option(
        "--fail-fast/--keep-going",
        help="End at the first cell that fails, or go on with the others.",
        rich_help_panel=CELLS,
    ),
]
PublishedValues = Annotated[
    str | None,
    Option(
        "--published",
        metavar="FILE|PRESET",
        help="A CSV file of published accuracies to stand beside the measured ones, or a preset "
        "that carries some (alpha_temperature).",
        rich_help_panel=CELLS,
    ),
]
Workers = Annotated[
    int | None,
    Option(min=1, help="Local processes, each with a GPU of its own if there are; with --engine "
           "ray, the most jobs at once.",
           rich_help_panel=PLACE),
]  # fmt: skip
CellsPerJob = Annotated[
    int | None,
    Option(
        min=1,
        help="At most so many cells in one job; default: as many as memory holds, shared out "
        "evenly among the workers.",
        rich_help_panel=PLACE,
    ),
]
Engine = Annotated[
    str,
    Option(
        metavar="local|ray",
        help="Place the jobs on this machine or on a Ray cluster (needs rkkd[ray]).",
        rich_help_panel=PLACE,
    ),
]
Address = Annotated[
    str | None,
    Option(
        metavar="HOST:PORT|auto",
        help="The Ray cluster; default: RAY_ADDRESS, else one is started on this machine.",
        rich_help_panel=PLACE,
    ),
]
GpusPerJob = Annotated[
    float | None,
    Option(min=0, help="GPUs of each job on the cluster; default 0.", rich_help_panel=PLACE),
]
CpusPerJob = Annotated[
    int | None,
    Option(
        min=1,
        help="CPUs, and threads, of each job on the cluster; default: the experiment's threads, "
        "or 1.",
        rich_help_panel=PLACE,
    ),
]

# The keys that the flags set for all cells alike.
FLAG_KEYS = {k: v for k, v in keys.FLAG_KEYS.items() if k not in ("alpha", "temperature")}


@dataclass(frozen=True)
class Placing:
    """An engine and what the command line says of it."""

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
