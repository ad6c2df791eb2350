"""A grid that has been run, and what there is to say of it: grid.csv, tables, figures."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from rkkd_cli.analysis.grid import grid_frame
from rkkd_cli.analysis.grid_tables import GridTable, finished_baselines, finished_cells, grid_tables
from rkkd_cli.analysis.published import PublishedGrid, read_published_grid
from rkkd_cli.analysis.selection import SELECTIONS, EpochSelection
from rkkd_cli.cli.output.console import out, wide
from rkkd_cli.cli.output.run_result import Result, ended
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import published_path, read_experiment
from rkkd_cli.errors import UserError, printable, unknown_name
from rkkd_cli.files import write_whole
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.report.grid_text import BEST_MARK, DIGITS, TextTable, lay_out

if TYPE_CHECKING:
    from rkkd_cli.report.grid_figures import GridPicture

MOST_TABLES = 24  # on a terminal; the figures and grid.csv hold the rest


@dataclass(frozen=True)
class Grid:
    """The records of a grid, read for one selection of epochs."""

    run: RunDirectory
    manifest: Manifest
    experiment: Experiment
    frame: pd.DataFrame
    selection: EpochSelection
    published: PublishedGrid | None

    @property
    def keys(self) -> tuple[str, ...]:
        """The varied keys."""
        return tuple(self.experiment.vary)

    @property
    def tables(self) -> list[GridTable]:
        """One table a facet."""
        return grid_tables(self.frame, self.keys, self.selection.column, self.published)

    @property
    def references(self) -> dict[str, float]:
        """What the cells are compared with: baselines and teachers, in percent."""
        baselines = finished_baselines(self.frame, self.selection.column)
        teachers = {f"teacher {one['model']}": one["test_acc"] for one in self.manifest.teachers}
        return {arm: one.mean for arm, one in baselines.items()} | teachers

    @property
    def notes(self) -> list[str]:
        """The lines below the tables."""
        seeds = self.frame["seed"].nunique()
        spread = "one seed" if seeds == 1 else f"mean ± sample standard deviation of {seeds} seeds"
        notes = [
            f"Test accuracy in percent, {self.selection.told}, {spread}. The best of each column "
            f"is bold, the best of all is marked {BEST_MARK}."
        ]
        if self.published:
            notes.append("In brackets: the published value, and measured − published.")
        return [*notes, *self.references_told]

    @property
    def references_told(self) -> list[str]:
        """A line for each baseline and teacher, and for cells that are missing."""
        notes, published = [], self.published
        for arm, one in finished_baselines(self.frame, self.selection.column).items():
            stated = _beside(one.mean, published.baseline if published else None)
            notes.append(f"{arm} (the student without distillation): {one.text(DIGITS)} %{stated}")
        for teacher in self.manifest.teachers:
            stated = _beside(teacher["test_acc"], published.teacher if published else None)
            notes.append(f"teacher {teacher['model']}: {teacher['test_acc']:.{DIGITS}f} %{stated}")
        if self.manifest.ended_early:
            early = len(self.manifest.ended_early)
            notes.append(f"{early} cells ended early: grid.csv has the last epoch of each")
        missing = self.frame["status"].value_counts().drop("done", errors="ignore")
        return [*notes, *(f"{count} cells are {status}" for status, count in missing.items())]


def _beside(measured: float, stated: float | None) -> str:
    if stated is None:
        return ""
    return f" (published {stated:.{DIGITS}f} %, {measured - stated:+.{DIGITS}f})"


def read_grid_run(
    run: RunDirectory, manifest: Manifest, select: str = "last", published: str | None = None
) -> Grid:
    """Read a run that is a grid. Raises UserError where it is none, or has no such epochs."""
    experiment = read_experiment(run.experiment)
    if not experiment.vary:
        raise UserError(
            f"run {run.name!r} is no grid: it varies no keys; `rkkd show` summarises it"
        )
    return grid_of(run, manifest, experiment, run.read_metrics(manifest), select, published)


def grid_of(
    run: RunDirectory,
    manifest: Manifest,
    experiment: Experiment,
    metrics: pd.DataFrame,
    select: str = "last",
    published: str | None = None,
) -> Grid:
    """Return a grid's records. Raises UserError where it has no epochs of this selection."""
    if select not in SELECTIONS:
        raise unknown_name("selection", select, SELECTIONS)
    frame = grid_frame(metrics, experiment, manifest)
    selection = SELECTIONS[select]
    if select == "val" and frame[selection.column].isna().all():
        raise UserError(
            "there is no validation split to select by; run the grid with --val-share 0.1"
        )
    stated = read_stated(published, experiment) if published else None
    return Grid(run, manifest, experiment, frame, selection, stated)


def read_stated(published: str, experiment: Experiment) -> PublishedGrid:
    """Read published values: a file, or those that a shipped preset carries. Raises UserError."""
    models = experiment.student.model, experiment.teacher.model
    return read_published_grid(published_path(published), tuple(experiment.vary), *models)


@dataclass(frozen=True)
class GridResult:
    """An ended grid with its files."""

    grid: Grid
    files: list[Path]

    @property
    def path(self) -> str:
        """The run's folder."""
        return str(self.grid.run.path)

    @property
    def exit_status(self) -> int:
        """1 if a cell failed."""
        return 1 if self.grid.manifest.stopped else 0

    def as_json(self) -> dict[str, Any]:
        """Return the result as one JSON object."""
        grid = self.grid
        return {
            "run": grid.run.name,
            "status": grid.manifest.status,
            "stopped": grid.manifest.stopped,
            "directory": self.path,
            "metrics": str(grid.run.metrics),
            "files": [str(path) for path in self.files],
            "datasets": grid.manifest.datasets,
            "teachers": grid.manifest.teachers,
            "cells": [_plain(row) for row in grid.frame.to_dict("records")],
        }

    def print(self) -> None:
        """Print the tables and the files."""
        print_tables(self.grid)
        for path in (self.grid.run.metrics, *self.files):
            out.print(str(path), markup=False, highlight=False, soft_wrap=True)


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): None if pd.isna(value) else value for key, value in row.items()}


def ended_run(
    run: RunDirectory,
    manifest: Manifest,
    experiment: Experiment,
    metrics: pd.DataFrame,
    published: str | None = None,
) -> Result:
    """Draw the figures of a run that has ended, as PNG; a grid gets its grid.csv.

    A run without rows, or a grid without finished cells, has no figures.
    """
    if not experiment.vary:
        return ended(run, manifest, metrics)
    grid = grid_of(run, manifest, experiment, metrics, published=published)
    write_whole(run.path / "grid.csv", grid.frame.to_csv(index=False, lineterminator="\n"))
    return GridResult(grid, [run.path / "grid.csv", *draw(grid, run.figures, ["png"])])


def draw(grid: Grid, folder: Path, formats: list[str]) -> list[Path]:
    """Draw the grid's figures; return the files."""
    if finished_cells(grid.frame).empty:
        return []
    from rkkd_cli.report.grid_figures import draw_grid

    return draw_grid(picture_of(grid), folder, formats)


def picture_of(grid: Grid) -> "GridPicture":
    """Return what is drawn of the grid."""
    from rkkd_cli.report.grid_figures import GridPicture

    return GridPicture(
        grid.run.name, grid.frame, grid.keys, grid.selection, grid.references, grid.published
    )


def print_tables(grid: Grid) -> None:
    """Print the tables, the best of each column bold, and what stands below them."""
    layouts = [lay_out(table) for table in grid.tables]
    for layout in layouts[:MOST_TABLES]:
        out.print()
        if layout.title:
            out.print(printable(layout.title), markup=False, highlight=False)
        wide.print(_rich(layout))
    if len(layouts) > MOST_TABLES:
        out.print(f"… and {len(layouts) - MOST_TABLES} more tables: grid.csv has all cells")
    for note in grid.notes:
        out.print(printable(note), markup=False, highlight=False, soft_wrap=True)


def _rich(layout: TextTable) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(layout.header):
        column = Text(printable(name))
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in layout.rows:
        texts = [
            Text(printable(one.text) + BEST_MARK * one.best, "bold" if one.best_of_column else "")
            for one in row
        ]
        table.add_row(*texts)
    return table
