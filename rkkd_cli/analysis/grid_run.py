"""The records of a grid, read for one selection of epochs."""

import json
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from rkkd_cli.analysis.grid import grid_frame
from rkkd_cli.analysis.grid_tables import GridTable, finished_baselines, finished_cells, grid_tables
from rkkd_cli.analysis.published import PublishedGrid, read_published_grid
from rkkd_cli.analysis.selection import SELECTIONS, EpochSelection
from rkkd_cli.analysis.summary import MeanStd
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import published_path, read_experiment
from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.records.manifest import Manifest, teacher_name
from rkkd_cli.records.run_directory import RunDirectory


@dataclass(frozen=True)
class GridRecord:
    """A grid's rows, one per cell and seed, with the ``selection`` whose accuracies count."""

    run: RunDirectory
    experiment: Experiment
    manifest: Manifest
    keys: tuple[str, ...]
    frame: pd.DataFrame
    selection: EpochSelection
    published: PublishedGrid | None

    @classmethod
    def of(
        cls,
        run: RunDirectory,
        manifest: Manifest,
        experiment: Experiment,
        metrics: pd.DataFrame,
        select: str = "last",
        published: str | None = None,
    ) -> "GridRecord":
        """Return the record of a grid's metrics. Raises UserError for epochs that it lacks."""
        if select not in SELECTIONS:
            raise unknown_name("selection", select, SELECTIONS)
        frame = grid_frame(metrics, experiment, manifest)
        selection = SELECTIONS[select]
        if select == "val" and frame[selection.column].isna().all():
            raise UserError(
                "there is no validation split to select by; run the grid with --val-share 0.1"
            )
        cells = read_published_cells(published, experiment) if published else None
        return cls(run, experiment, manifest, tuple(experiment.vary), frame, selection, cells)

    @property
    def has_cells(self) -> bool:
        """Whether any cell is finished."""
        return not finished_cells(self.frame).empty

    @property
    def tables(self) -> list[GridTable]:
        """One table per combination of the third and further keys."""
        return grid_tables(self.frame, self.keys, self.selection.column, self.published)

    @cached_property
    def baselines(self) -> dict[str, MeanStd]:
        """The accuracy of each finished baseline, in percent."""
        return finished_baselines(self.frame, self.selection.column)

    @property
    def references(self) -> dict[str, float]:
        """The accuracies of baselines and teachers, in percent, to compare the cells with."""
        teachers = {f"teacher {teacher_name(t)}": t["test_acc"] for t in self.manifest.teachers}
        return {arm: accuracy.mean for arm, accuracy in self.baselines.items()} | teachers


def read_grid_run(
    run: RunDirectory, manifest: Manifest, select: str = "last", published: str | None = None
) -> GridRecord:
    """Read a grid's run. Raises UserError for a run that varies no keys or lacks these epochs."""
    experiment = read_experiment(run.experiment)
    if not experiment.vary:
        raise UserError(
            f"run {run.name!r} is no grid: it varies no keys; `rkkd show` summarises it"
        )
    metrics = run.read_metrics(manifest)
    return GridRecord.of(run, manifest, experiment, metrics, select, published)


def read_published_cells(published: str, experiment: Experiment) -> PublishedGrid:
    """Read the accuracies that a file or a shipped preset states for a grid.

    Raises UserError, also if it states none of any cell.
    """
    path, models = published_path(published), (experiment.student.model, experiment.teacher.model)
    stated = read_published_grid(path, tuple(experiment.vary), *models)
    of_grid = stated.cells["acc"].notna()
    for key, values in experiment.vary.items():
        texts = [json.dumps(value) for value in values]
        of_grid &= stated.cells[key].isin([*values, *texts])
    if not of_grid.any():
        raise UserError(
            f"{path} has no accuracy of student {models[0]} with values of "
            f"{', '.join(experiment.vary)} that this grid varies"
        )
    return stated
