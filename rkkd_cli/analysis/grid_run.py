"""The records of a grid, read for one selection of epochs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import pandas as pd

from rkkd_cli.analysis.grid import grid_frame
from rkkd_cli.analysis.grid_tables import GridTable, finished_baselines, finished_cells, grid_tables
from rkkd_cli.analysis.published import ComparedAccuracy, PublishedAccuracy, read_published
from rkkd_cli.analysis.selection import EpochSelection, selection_of
from rkkd_cli.analysis.summary import MeanStd
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import published_path, read_experiment
from rkkd_cli.errors import UserError
from rkkd_cli.records.manifest import Manifest, teacher_metric, teacher_name
from rkkd_cli.records.run_directory import RunDirectory


@dataclass(frozen=True)
class GridRecord:
    """A grid's rows, one per cell and seed, with the ``selection`` whose metric counts.

    ``published`` has accuracies by arm, ``published_teachers`` by model; ``unpublished`` names the
    arms that are not in the file.
    """

    run: RunDirectory
    experiment: Experiment
    manifest: Manifest
    keys: tuple[str, ...]
    frame: pd.DataFrame
    selection: EpochSelection
    published: Mapping[str, ComparedAccuracy] = field(default_factory=dict)
    published_teachers: Mapping[str, PublishedAccuracy] = field(default_factory=dict)
    unpublished: str = ""

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
        selection = selection_of(select, experiment.task_records)
        frame = grid_frame(metrics, experiment, manifest)
        if select == "val" and frame[selection.column].isna().all():
            raise UserError(
                "there is no validation split to select by; run the grid with --val-share 0.1"
            )
        record = cls(run, experiment, manifest, tuple(experiment.vary), frame, selection)
        if not published:
            return record
        stated = read_published(published_path(published), experiment, select)
        return replace(
            record,
            published=stated.beside(metrics, manifest.cells_ended_early),
            published_teachers=stated.teachers,
            unpublished=stated.unstated,
        )

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
        teachers = {
            f"teacher {teacher_name(facts)}": teacher_metric(facts)
            for facts in self.manifest.teachers
        }
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
