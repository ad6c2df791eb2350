"""Which grid a command line asks for, and the run that has begun it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rkkd_cli.cli.commands.resume import begun_run
from rkkd_cli.cli.flags.overrides import preset_label
from rkkd_cli.config.compatibility import extended
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import Choice
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_grid, read_experiment
from rkkd_cli.records.run_directory import AUTO, RunDirectory, check_free

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
