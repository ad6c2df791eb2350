"""``rkkd table``: the tables of a grid, as text, Markdown, LaTeX, CSV or JSON."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.cli.flags.runs import JSON_ONLY, OUT, PUBLISHED, RUN, SELECT, format_flag

if TYPE_CHECKING:
    from rkkd_cli.analysis.grid_run import GridRecord


@takes(
    replace(RUN, help="Name or folder of a grid."),
    format_flag("text", "md", "latex", "csv"), SELECT, PUBLISHED,
    Flag("output", Path | None, "File to write the tables to, instead of printing them.",
         option=("--output", "-o")),
    JSON_ONLY, OUT,
)  # fmt: skip
def table(
    run: str,
    to: str,
    select: str,
    published: str | None,
    output: Path | None,
    as_json: bool,
    out: Path,
) -> None:
    """Print a grid: the first varied key gives the rows, the second one the columns."""
    from rkkd_cli.analysis.grid_run import read_grid_run
    from rkkd_cli.analysis.stored_run import resolve_published
    from rkkd_cli.cli.output.console import print_text
    from rkkd_cli.cli.output.grid_result import print_tables
    from rkkd_cli.files import write_atomically
    from rkkd_cli.records.run_directory import open_run
    from rkkd_cli.report.grid_text import grid_notes, lay_out, long_csv
    from rkkd_cli.report.text_tables import BEST_OF_COLUMN, WRITERS

    opened = open_run(run, out)
    source = resolve_published(published, [opened]) if published else None
    grid = read_grid_run(opened, opened.read_manifest(), select, source)
    if to == "text" and output is None and not as_json:
        print_tables(grid)
        return
    if as_json:
        text = f"{_as_json(grid)}\n"
    elif to == "csv":
        text = long_csv(grid.tables)
    else:
        tables = [lay_out(one, metric=grid.selection.metric) for one in grid.tables]
        notes = grid_notes(grid, BEST_OF_COLUMN[to])
        text = WRITERS[to](tables, notes)
    if output is None:
        print_text(text)
    else:
        write_atomically(output, text)


def _as_json(grid: "GridRecord") -> str:
    """Return the accuracies of the cells, in percent, and those of the baselines and teachers."""
    from rkkd_cli.report.grid_text import grid_notes, long_frame

    content = {
        "run": grid.run.name,
        "cells": long_frame(grid.tables).to_dict("records"),
        "baselines": {arm: asdict(accuracy) for arm, accuracy in grid.baselines.items()},
        "teachers": grid.manifest.teachers,
        "notes": grid_notes(grid),
    }
    return json.dumps(content, allow_nan=False)
