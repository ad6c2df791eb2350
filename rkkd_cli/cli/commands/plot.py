"""``rkkd plot``: the ablation curves of one run, or of several laid over each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.cli.flags.runs import OUT, PUBLISHED, RUNS
from rkkd_cli.errors import UserError, unknown_name

if TYPE_CHECKING:
    from pandas import DataFrame

    from rkkd_cli.records.run_directory import RunDirectory


@takes(
    RUNS,
    Flag("to", Path | None,
         "Folder for the figures; default: the run's own, or ./figures for several."),
    Flag("formats", str, "File format of the figures: png, svg or pdf; a comma list for several.",
         default="png", option=("--format",)),
    PUBLISHED, OUT,
)  # fmt: skip
def plot(
    runs: list[str] | None, to: Path | None, formats: str, published: str | None, out: Path
) -> None:
    """Draw ranking loss, KL and test accuracy against the epoch, a sheet of the three, and the
    gradients by the logits."""
    from rkkd_cli.files import write_problem
    from rkkd_cli.records.run_directory import newest_run, open_run

    wanted = _formats(formats)
    opened = [open_run(run, out) for run in runs] if runs else [newest_run(out)]
    metrics = [(run.name, run.read_metrics(run.read_manifest())) for run in opened]
    for run, (_, frame) in zip(opened, metrics, strict=True):
        if frame.empty:
            raise UserError(f"run {run.path} has no finished epoch to draw")
    folder = to or (opened[0].figures if len(opened) == 1 else Path("figures"))
    problem = write_problem(folder)
    if problem:
        raise UserError(f"cannot write figures to {folder}: {problem}")
    for path in _draw(opened, metrics, folder, wanted, published):
        typer.echo(path)


def _draw(
    runs: "Sequence[RunDirectory]",
    metrics: "Sequence[tuple[str, DataFrame]]",
    folder: Path,
    formats: list[str],
    published: str | None,
) -> list[Path]:
    """Draw the figures of a grid where the one run is a grid, else the curves of all runs."""
    from rkkd_cli.cli.output.stored_run import chosen
    from rkkd_cli.config.presets import published_path, read_experiment

    stated = chosen(published, runs) if published else None
    if len(runs) == 1 and read_experiment(runs[0].experiment).vary:
        from rkkd_cli.cli.output.grid_result import draw, read_grid_run

        grid = read_grid_run(runs[0], runs[0].read_manifest(), published=stated)
        return draw(grid, folder, formats)
    from rkkd_cli.analysis.published_curves import read_published_curves
    from rkkd_cli.report.curves import draw_figures

    curves = read_published_curves(published_path(stated)) if stated else None
    return draw_figures(metrics, folder, formats, curves)


def _formats(text: str) -> list[str]:
    from rkkd_cli.report.style import FORMATS

    wanted = [one.strip().lower() for one in text.split(",")]
    for one in wanted:
        if one not in FORMATS:
            raise unknown_name("format", one, FORMATS)
    return wanted
