"""``rkkd report``: runs as one HTML page that needs no network and no server."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.cli.flags.runs import OUT, PUBLISHED, RUNS
from rkkd_cli.errors import UserError

if TYPE_CHECKING:
    from rkkd_cli.analysis.published_curves import PublishedCurves
    from rkkd_cli.config.experiment import Experiment
    from rkkd_cli.records.manifest import Manifest
    from rkkd_cli.records.run_directory import RunDirectory
    from rkkd_cli.report.page.sources import PageGrid, PageRun

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
    from rkkd_cli.cli.output.stored_run import chosen, found_for
    from rkkd_cli.files import write_problem, write_whole
    from rkkd_cli.records.run_directory import newest_run, open_run

    opened = [open_run(run, out) for run in runs] if runs else [newest_run(out)]
    path = to or (opened[0].path / FILE if len(opened) == 1 else Path(FILE))
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file, such as {path / FILE}")
    problem = write_problem(path.parent)
    if problem:
        raise UserError(f"cannot write {path}: {problem}")
    stated = chosen(published, opened) if published else found_for(opened)
    text = _page(opened, stated)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    typer.echo(path)


def _page(runs: "Sequence[RunDirectory]", stated: str | None) -> str:
    from rkkd_cli.report.page.page import report_page
    from rkkd_cli.report.page.sources import PageSource

    parts = [_part(run, stated) for run in runs]
    return report_page(PageSource(parts, _curves(stated)))


def _part(run: "RunDirectory", stated: str | None) -> "PageRun":
    from rkkd_cli.config.presets import read_experiment
    from rkkd_cli.records.run_directory import EXPERIMENT, MANIFEST, METRICS
    from rkkd_cli.report.page.sources import PageRun

    manifest = run.read_manifest()
    experiment = read_experiment(run.experiment)
    metrics = run.read_metrics(manifest)
    if metrics.empty:
        raise UserError(f"run {run.path} has no finished epoch to report")
    files = {name: (run.path / name).read_bytes() for name in (METRICS, EXPERIMENT, MANIFEST)}
    arms = {} if experiment.vary or stated is None else _arms(stated, experiment)
    grid = _grid(run, manifest, stated) if experiment.vary else None
    status = run.status(manifest)
    return PageRun(run.name, experiment, manifest, status, metrics, files, arms, grid)


def _grid(run: "RunDirectory", manifest: "Manifest", stated: str | None) -> "PageGrid | None":
    from rkkd_cli.analysis.grid_tables import finished_cells
    from rkkd_cli.cli.output.grid_result import picture_of, read_grid_run
    from rkkd_cli.report.page.sources import PageGrid

    grid = read_grid_run(run, manifest, published=stated)
    if finished_cells(grid.frame).empty:
        return None
    return PageGrid(picture_of(grid), grid.references_told)


def _arms(stated: str, experiment: "Experiment") -> dict[str, float]:
    from rkkd_cli.analysis.published import has_accuracies, read_published_arms
    from rkkd_cli.config.presets import published_path

    path = published_path(stated)
    return read_published_arms(path, experiment.student.model) if has_accuracies(path) else {}


def _curves(stated: str | None) -> "PublishedCurves | None":
    from rkkd_cli.analysis.published_curves import has_curves, read_published_curves
    from rkkd_cli.config.presets import published_path

    if stated is None or not has_curves(published_path(stated)):
        return None
    return read_published_curves(published_path(stated))
