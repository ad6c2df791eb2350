"""``rkkd table``: the tables of a grid, for a terminal, a paper or pandas."""

from pathlib import Path
from typing import Annotated

import typer

from rkkd_cli.cli.flags import common as flags
from rkkd_cli.cli.flags import grid as own
from rkkd_cli.errors import unknown_name

FORMATS = ("text", "md", "latex", "csv")


def table(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name or folder of a grid.")],
    to: Annotated[
        str, typer.Option("--format", metavar="|".join(FORMATS), help="As what.")
    ] = "text",
    select: Annotated[
        str,
        typer.Option(metavar="last|best|val", help="Which epoch's test accuracy counts."),
    ] = "last",
    published: own.PublishedValues = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it into a file.")
    ] = None,
    out: flags.Results = flags.DEFAULT_RESULTS,
) -> None:
    """Print a grid: rows of the first varied key, columns of the second."""
    from rkkd_cli.cli.output.grid_result import print_tables, read_grid_run
    from rkkd_cli.files import write_whole
    from rkkd_cli.records.run_directory import open_run
    from rkkd_cli.report.grid_text import WRITERS, lay_out, long_csv, plain

    if to not in FORMATS:
        raise unknown_name("format", to, FORMATS)
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
