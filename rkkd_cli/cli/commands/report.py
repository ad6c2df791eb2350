"""``rkkd report``: runs as one HTML page that needs no network and no server."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.cli.flags.runs import OUT, PUBLISHED, RUNS
from rkkd_cli.errors import UserError

if TYPE_CHECKING:
    from rkkd_cli.records.run_directory import RunDirectory
    from rkkd_cli.report.page.sources import PageSource

FILE = "report.html"


@takes(
    RUNS,
    Flag("to", Path | None, "File to write; default: report.html in the run's folder, or here for "
         "several.", metavar="FILE"),
    PUBLISHED, OUT,
)  # fmt: skip
def report(runs: list[str] | None, to: Path | None, published: str | None, out: Path) -> None:
    """Write runs as one HTML page: curves with hover values and toggles, tables, setting, data.

    Published values of the run's own preset stand beside the measured ones by themselves.
    """
    from rkkd_cli.cli.output.console import out as stdout
    from rkkd_cli.cli.output.console import print_line
    from rkkd_cli.files import write_atomically, write_problem
    from rkkd_cli.records.run_directory import newest_run, open_run

    opened = [open_run(run, out) for run in runs] if runs else [newest_run(out)]
    path = to or (opened[0].path / FILE if len(opened) == 1 else Path(FILE))
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file, such as {path / FILE}")
    if problem := write_problem(path.parent):
        raise UserError(f"cannot write {path}: {problem}")
    from rkkd_cli.report.page.page import report_page

    text = report_page(_page_source(opened, published))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    print_line(stdout, str(path))


def _page_source(runs: Sequence["RunDirectory"], published: str | None) -> "PageSource":
    from rkkd_cli.analysis.stored_run import published_preset_of, resolve_published
    from rkkd_cli.report.page.sources import PageSource

    if published:
        return PageSource.read(runs, resolve_published(published, runs))
    try:
        return PageSource.read(runs, published_preset_of(runs))
    except UserError:  # the preset's published values may be of other models
        return PageSource.read(runs, None)
