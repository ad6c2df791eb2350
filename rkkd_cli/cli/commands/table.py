"""``rkkd table``: the tables of a grid, for a terminal, a paper or pandas."""

from dataclasses import replace
from pathlib import Path

import typer

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.cli.flags.grid import PUBLISHED_GRID
from rkkd_cli.cli.flags.runs import OUT, RUN, SELECT, format_flag


@takes(
    replace(RUN, help="Name or folder of a grid."),
    format_flag("text", "md", "latex", "csv"), SELECT, PUBLISHED_GRID,
    Flag("output", Path | None, "File to write the tables to, instead of printing them.",
         option=("--output", "-o")),
    OUT,
)  # fmt: skip
def table(
    run: str, to: str, select: str, published: str | None, output: Path | None, out: Path
) -> None:
    """Print a grid: rows of the first varied key, columns of the second."""
    from rkkd_cli.cli.output.grid_result import print_tables, read_grid_run
    from rkkd_cli.files import write_whole
    from rkkd_cli.records.run_directory import open_run
    from rkkd_cli.report.grid_text import WRITERS, lay_out, long_csv, plain

    opened = open_run(run, out)
    grid = read_grid_run(opened, opened.read_manifest(), select, published)
    if to == "text" and output is None:
        print_tables(grid)
        return
    layouts = [lay_out(one) for one in grid.tables]
    text = long_csv(grid.tables) if to == "csv" else WRITERS.get(to, plain)(layouts, grid.notes)
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_whole(output, text)
