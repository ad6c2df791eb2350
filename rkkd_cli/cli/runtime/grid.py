"""The grid that a command line asks for: begin it, go on with it, or extend it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rkkd_cli.cli.flags.overrides import preset_label
from rkkd_cli.cli.runtime.begun import begun_run
from rkkd_cli.config.compatibility import extended
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import Choice
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_grid, read_experiment
from rkkd_cli.records.run_directory import AUTO, RunDirectory, check_free

if TYPE_CHECKING:
    from rkkd_cli.cli.output.run_result import Result
    from rkkd_cli.cli.runtime.engines import Place
    from rkkd_cli.train.distributed.process_group import TorchrunGroup

DEFAULT_GRID = "alpha_temperature_digits"


@dataclass(frozen=True)
class GridRequest:
    """A preset with overrides and values; the run has the preset's name unless it is given one.

    So the same command finds its run again.
    """

    preset: str | None
    overrides: tuple[Override, ...]
    axes: Mapping[str, tuple[Any, ...]]
    choice: Choice
    out: Path
    given_name: str | None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.given_name or preset_label(self.preset or DEFAULT_GRID)

    @cached_property
    def experiment(self) -> Experiment:
        """The grid that is asked for; values without a preset are all that is varied.

        Raises UserError.
        """
        preset = DEFAULT_GRID if self.preset is None else self.preset
        only_axes = self.preset is None and bool(self.axes)
        return load_grid(preset, list(self.overrides), self.axes, self.choice, only_axes)

    def begun(self) -> RunDirectory | None:
        """Return the run that has begun, if there is one. Raises UserError."""
        return begun_run(AUTO, self.name, self.out)

    def planned(self) -> Experiment:
        """Return what would be run, with what has begun. Raises UserError; writes nothing."""
        wanted, begun = self.experiment, self.begun()
        if begun is None:
            check_free(self.out, self.name)
            return wanted
        return extended(read_experiment(begun.experiment), wanted, begun.name)


def run_grid(
    request: GridRequest,
    place: "Place",
    most_cells: int | None,
    minutes: float,
    retry: bool,
    fail_fast: bool,
    quiet: bool,
    published: str | None,
    loggers: tuple[str, ...] = (),
    process_group: "TorchrunGroup | None" = None,
) -> "Result":
    """Train the cells that are left, and return the whole grid."""
    from rkkd_cli.cli.output.grid_result import grid_ended
    from rkkd_cli.cli.runtime.engines import cells_per_job
    from rkkd_cli.cli.runtime.execute import Manner, begin, go_on

    finish = partial(grid_ended, published=published)
    most_arms = cells_per_job(request.planned(), place, most_cells)
    manner = Manner(
        minutes, quiet, place.engine, most_arms, retry, fail_fast, finish, place.threads,
        place.device, loggers, process_group,
    )  # fmt: skip
    run = request.begun()
    if run is None:
        return begin(request.experiment, request.out, request.name, False, manner)
    return go_on(run, lambda _: request.experiment, manner, extended)
