"""What a command line requests: an experiment or a grid, as a new run or to continue one."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from rkkd_cli.api.recognise_teacher import load_with_teacher
from rkkd_cli.config.arms import select_by_rank_grad
from rkkd_cli.config.compatibility import continued_experiment, extended_grid
from rkkd_cli.config.description import continued_texts, described, label_of, own_experiment
from rkkd_cli.config.experiment import Experiment, name_from
from rkkd_cli.config.grid import CellSelection
from rkkd_cli.config.overrides import Override, overridden_keys
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
AS_BEGUN = "the run as it was begun"


class RunRequest(Protocol):
    """A request for a run: new, or continued from the experiment that it has recorded.

    With ``extends`` a run that has begun gets the cells and seeds that it lacks.
    """

    extends: ClassVar[bool]

    def experiment(self, recorded: Experiment | None = None) -> Experiment:
        """Return the requested experiment. Raises UserError."""


@dataclass(frozen=True)
class ExperimentRequest:
    """A preset with overrides.

    With ``from_record`` and no preset, the overrides apply to what the run has recorded.
    """

    preset: str | None
    overrides: Sequence[Override]
    rank_grad: str = "both"
    from_record: bool = False
    extends: ClassVar[bool] = False

    def experiment(self, recorded: Experiment | None = None) -> Experiment:
        """Return the requested experiment. Raises UserError."""
        preset = DEFAULT_PRESET if self.preset is None else self.preset
        typed = overridden_keys(self.overrides)
        own, label = own_experiment(preset), label_of(preset)
        if recorded is not None and self.from_record and self.preset is None:
            own, label = recorded, AS_BEGUN
            requested = override_experiment(recorded, self.overrides)
        else:
            requested = load_with_teacher(partial(load_experiment, preset), self.overrides)
        requested = select_by_rank_grad(requested, self.rank_grad)
        requested = described(requested, own, label, typed)
        return requested if recorded is None else continued_texts(recorded, requested, typed)

    def planned(self, begun: RunDirectory) -> Experiment:
        """Return the experiment as which a run would be continued. Raises UserError."""
        recorded = read_experiment(begun.experiment)
        return continued_experiment(recorded, self.experiment(recorded), begun.name)


@dataclass(frozen=True)
class LoadedExperiment:
    """An experiment that has been loaded."""

    loaded: Experiment
    extends: ClassVar[bool] = False

    def experiment(self, recorded: Experiment | None = None) -> Experiment:
        """Return the experiment, with the texts of the run that it continues."""
        return self.loaded if recorded is None else continued_texts(recorded, self.loaded, ())


@dataclass(frozen=True)
class GridRequest:
    """A preset with overrides, the values of further varied keys, and a selection of the cells.

    Without a name the run is named after the preset, so that the same command finds it again.
    """

    preset: str | None
    overrides: Sequence[Override]
    axes: Mapping[str, tuple[Any, ...]]
    selection: CellSelection
    out: Path
    given_name: str | None
    extends: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The run's name."""
        return self.given_name or preset_label(self._preset)

    @property
    def _preset(self) -> str:
        return DEFAULT_GRID if self.preset is None else self.preset

    @cached_property
    def _grid(self) -> Experiment:
        only_axes = self.preset is None and bool(self.axes)

        def load(overrides: Sequence[Override]) -> Experiment:
            return load_grid(self._preset, overrides, self.axes, self.selection, only_axes)

        grid = load_with_teacher(load, self.overrides)
        own, label = own_experiment(self._preset), label_of(self._preset)
        return described(grid, own, label, overridden_keys(self.overrides))

    def experiment(self, recorded: Experiment | None = None) -> Experiment:
        """Return the requested grid. Without a preset it varies only the keys of ``axes``, if any.

        Raises UserError.
        """
        if recorded is None:
            return self._grid
        return continued_texts(recorded, self._grid, overridden_keys(self.overrides))

    @property
    def begun(self) -> RunDirectory | None:
        """The run of that name, if it has begun. Raises UserError."""
        return run_to_resume(AUTO, self.name, self.out)

    def planned(self) -> Experiment:
        """Return the grid as it would be trained, with the cells of a run that has begun.

        Raises UserError; writes nothing.
        """
        begun = self.begun
        if begun is None:
            requested = self.experiment()
            check_free(self.out, self.name)
            return requested
        recorded = read_experiment(begun.experiment)
        return extended_grid(recorded, self.experiment(recorded), begun.name)


def preset_label(preset: str | None) -> str:
    """Return the name of a run of the preset: that of the preset, of its file or of its run.

    Letters that no run's name has become ``_``.
    """
    return name_from(label_of(DEFAULT_PRESET if preset is None else preset), 64) or "run"


def run_to_resume(resume: str | None, name: str | None, out: Path) -> RunDirectory | None:
    """Return the run that ``--resume`` names, or None for a new run. Raises UserError."""
    if resume is None:
        return None
    if resume != AUTO:
        run = open_run(resume, out)
        if name not in (None, run.name):
            raise UserError(f"--name {name}: the run to resume is {run.name}; leave out --name")
        return run
    if name is None:
        raise UserError("--resume auto needs --name, the run to begin or to continue")
    check_name(name)
    path = out / name
    if not path.exists() or never_began(path):
        return None
    if not is_run(path):
        raise UserError(f"{path} is no run; choose another --name, or move it away")
    return RunDirectory(path)


def run_before_restart(out: Path) -> RunDirectory | None:
    """Return the run that this torchrun launch began before it restarted its processes, if any."""
    nodes = os.environ.get("GROUP_WORLD_SIZE", "1")
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if nodes == "1" and restarts == "0":  # with several nodes, each counts its own restarts
        return None
    from rkkd_cli.train.distributed.torchrun import launch_id

    this_launch = launch_id()
    runs = [run for run in find_runs(out) if this_launch and run.launch() == this_launch]
    return runs[-1] if runs else None
