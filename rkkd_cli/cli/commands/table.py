"""``rkkd table``: the tables of a grid, as text, Markdown, LaTeX or CSV."""

from dataclasses import replace
from pathlib import Path

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
    """Print a grid: the first varied key gives the rows, the second one the columns."""
    from rkkd_cli.analysis.grid_run import read_grid_run
    from rkkd_cli.cli.output.console import print_text
    from rkkd_cli.cli.output.grid_result import print_tables
    from rkkd_cli.files import write_atomically
    from rkkd_cli.records.run_directory import open_run
    from rkkd_cli.report.grid_text import grid_notes, lay_out, long_csv
    from rkkd_cli.report.text_tables import WRITERS

    opened = open_run(run, out)
    grid = read_grid_run(opened, opened.read_manifest(), select, published)
    if to == "text" and output is None:
        print_tables(grid)
        return
    if to == "csv":
        text = long_csv(grid.tables)
    else:
        text = WRITERS[to]([lay_out(table) for table in grid.tables], grid_notes(grid))
    if output is None:
        print_text(text)
    else:
        write_atomically(output, text)
