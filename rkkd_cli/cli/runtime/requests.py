"""What a command line asks for: an experiment or a grid, begun anew or gone on with."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from rkkd_cli.config.arms import select_by_rank_grad
from rkkd_cli.config.compatibility import continued, extended
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import Choice
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import (
    DEFAULT_PRESET,
    load_experiment,
    load_grid,
    override_experiment,
    read_experiment,
)
from rkkd_cli.errors import UserError
from rkkd_cli.records.run_directory import (
    AUTO,
    RunDirectory,
    check_free,
    check_name,
    find_runs,
    is_run,
    never_began,
    open_run,
)

DEFAULT_GRID = "alpha_temperature_digits"


class Request(Protocol):
    """What makes the wanted experiment, for a new run or from what a run has recorded.

    ``extends``: a run that has begun gets the cells and seeds that it lacks.
    """

    extends: ClassVar[bool]

    def experiment(self, recorded: Experiment | None = None) -> Experiment:
        """Return the wanted experiment. Raises UserError."""


@dataclass(frozen=True)
class ExperimentRequest:
    """A preset with overrides; with ``from_record`` and no preset, what a run has recorded."""

    preset: str | None
    overrides: Sequence[Override]
    rank_grad: str = "both"
    from_record: bool = False
    extends: ClassVar[bool] = False

    def experiment(self, recorded: Experiment | None = None) -> Experiment:
        """Return the wanted experiment. Raises UserError."""
        if recorded is not None and self.from_record and self.preset is None:
            wanted = override_experiment(recorded, self.overrides)
        else:
            wanted = load_experiment(self.preset or DEFAULT_PRESET, self.overrides)
        return select_by_rank_grad(wanted, self.rank_grad)

    def planned(self, begun: RunDirectory) -> Experiment:
        """Return the experiment with which a run would go on, as far as its files tell."""
        recorded = read_experiment(begun.experiment)
        return continued(recorded, self.experiment(recorded), begun.name)


@dataclass(frozen=True)
class GridRequest:
    """A preset with overrides and values.

    The run is called like the preset unless it is given a name, so the same command finds it again.
    """

    preset: str | None
    overrides: Sequence[Override]
    axes: Mapping[str, tuple[Any, ...]]
    choice: Choice
    out: Path
    given_name: str | None
    extends: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The run's name."""
        return self.given_name or preset_label(self.preset or DEFAULT_GRID)

    @cached_property
    def _grid(self) -> Experiment:
        only_axes = self.preset is None and bool(self.axes)
        preset = self.preset or DEFAULT_GRID
        return load_grid(preset, list(self.overrides), self.axes, self.choice, only_axes)

    def experiment(self, recorded: Experiment | None = None) -> Experiment:
        """Return the wanted grid; values without a preset are all that is varied.

        Raises UserError.
        """
        return self._grid

    @property
    def begun(self) -> RunDirectory | None:
        """The run that has begun, if there is one. Raises UserError."""
        return run_to_resume(AUTO, self.name, self.out)

    def planned(self) -> Experiment:
        """Return what would be run, with what has begun. Raises UserError; writes nothing."""
        wanted, begun = self.experiment(), self.begun
        if begun is None:
            check_free(self.out, self.name)
            return wanted
        return extended(read_experiment(begun.experiment), wanted, begun.name)


def preset_label(preset: str | None) -> str:
    """Return what a run of the preset is called: its name, or that of its file or run."""
    path = Path(DEFAULT_PRESET if preset is None else preset)
    return path.parent.name if path.name == "experiment.toml" and path.parent.name else path.stem


def run_to_resume(resume: str | None, name: str | None, out: Path) -> RunDirectory | None:
    """Return the run that ``--resume`` means; None for a new one. Raises UserError."""
    if resume is None:
        return None
    if resume != AUTO:
        run = open_run(resume, out)
        if name not in (None, run.name):
            raise UserError(f"--name {name}: the run to resume is {run.name}; leave --name away")
        return run
    if name is None:
        raise UserError("--resume auto needs --name, the run to begin or to go on with")
    check_name(name)
    path = out / name
    if not path.exists() or never_began(path):
        return None
    if not is_run(path):
        raise UserError(f"{path} is no run; choose another --name, or move it away")
    return RunDirectory(path)


def run_before_restart(out: Path) -> RunDirectory | None:
    """Return the run that this torchrun began before it started its processes again, if any."""
    nodes, restarts = (
        os.environ.get(name, default)
        for name, default in (("GROUP_WORLD_SIZE", "1"), ("TORCHELASTIC_RESTART_COUNT", "0"))
    )
    if nodes == "1" and restarts == "0":  # nodes count their restarts apart
        return None
    from rkkd_cli.train.distributed.torchrun import launch

    this_launch = launch()
    runs = [run for run in find_runs(out) if this_launch and run.launch() == this_launch]
    return runs[-1] if runs else None
