"""The result of a grid: grid.csv, tables and figures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from rkkd_cli.analysis.grid_run import GridRecord
from rkkd_cli.cli.output.console import out, print_line, wide
from rkkd_cli.cli.output.tables import cell_text
from rkkd_cli.files import write_atomically
from rkkd_cli.report.grid_text import grid_notes, lay_out
from rkkd_cli.report.text_tables import BEST_MARK, TextTable

MAX_TABLES = 24  # on a terminal; the figures and grid.csv have all


@dataclass(frozen=True)
class GridResult:
    """An ended grid with its files."""

    grid: GridRecord
    files: list[Path]

    @property
    def path(self) -> str:
        """The run's folder."""
        return str(self.grid.run.path)

    @property
    def exit_status(self) -> int:
        """1 if a cell failed."""
        return 1 if self.grid.manifest.stopped else 0

    @property
    def next_commands(self) -> dict[str, str]:
        """A page of the grid, and its tables in another form."""
        handle = self.grid.run.handle
        return {
            f"rkkd report {handle}": "one HTML page",
            f"rkkd table {handle} --format md": "its tables; latex and csv too",
        }

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
            "cells": [
                {str(column): None if pd.isna(value) else value for column, value in row.items()}
                for row in grid.frame.to_dict("records")
            ],
        }

    def print(self) -> None:
        """Print the tables and the files."""
        print_tables(self.grid)
        for path in (self.grid.run.metrics, *self.files):
            print_line(out, str(path))


def make_grid_result(grid: GridRecord, figures: bool) -> GridResult:
    """Write grid.csv, draw the ``figures`` as PNG if wanted, and return the grid's result."""
    path = grid.run.path / "grid.csv"
    write_atomically(path, grid.frame.to_csv(index=False, lineterminator="\n"))
    drawn = draw_figures(grid, grid.run.figures, ["png"]) if figures else []
    return GridResult(grid, [path, *drawn])


def draw_figures(grid: GridRecord, folder: Path, formats: list[str]) -> list[Path]:
    """Save the grid's figures in the folder; return the files: none without finished cells."""
    if not grid.has_cells:
        return []
    from rkkd_cli.report.grid_figures import draw_grid
    from rkkd_cli.report.grid_picture import GridPicture

    return draw_grid(GridPicture.of(grid), folder, formats)


def print_tables(grid: GridRecord) -> None:
    """Print the tables, with the best of each column bold where that shows, and their notes."""
    tables = [lay_out(table, metric=grid.selection.metric) for table in grid.tables]
    for table in tables[:MAX_TABLES]:
        out.print()
        if table.title:
            print_line(out, table.title)
        wide.print(_rich_table(table))
    if len(tables) > MAX_TABLES:
        out.print(f"… and {len(tables) - MAX_TABLES} more tables: grid.csv has all cells")
    for note in grid_notes(grid, "bold" if wide.color_system else ""):
        print_line(out, note)


def _rich_table(table: TextTable) -> Table:
    rich_table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(table.header):
        rich_table.add_column(cell_text(name), justify="right" if index else "left", no_wrap=True)
    for row in table.rows:
        texts = [cell_text(cell.text + BEST_MARK * cell.best) for cell in row]
        styles = ["bold" if cell.best_of_column else "" for cell in row]
        for text, style in zip(texts, styles, strict=True):
            text.style = style
        rich_table.add_row(*texts)
    return rich_table
