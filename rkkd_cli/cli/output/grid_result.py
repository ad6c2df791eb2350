"""What a command prints of a grid: its tables and its files."""

from typing import Any

import pandas as pd
from rich.table import Table

from rkkd_cli.analysis.grid_run import GridRecord
from rkkd_cli.api.ended_run import EndedRun
from rkkd_cli.cli.output.console import out, print_line, wide
from rkkd_cli.cli.output.tables import cell_text
from rkkd_cli.report.grid_text import grid_notes, lay_out
from rkkd_cli.report.text_tables import BEST_MARK, TextTable

MAX_TABLES = 24  # on a terminal; the figures and grid.csv have all


class GridResult:
    """The result of `rkkd grid`: tables, grid.csv and figures."""

    def __init__(self, ended: EndedRun, grid: GridRecord) -> None:
        self.grid, self.files = grid, ended.files

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
            "directory": str(grid.run.path),
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
