"""``rkkd plot``: the curves of one run, or of several in one figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
    """Draw ranking loss, KL, test accuracy and gradients over the epochs, or a grid's figures."""
    from rkkd_cli.cli.output.console import out as stdout
    from rkkd_cli.cli.output.console import print_line
    from rkkd_cli.files import write_problem
    from rkkd_cli.records.run_directory import newest_run, open_run

    file_formats = _parse_formats(formats)
    opened = [open_run(run, out) for run in runs] if runs else [newest_run(out)]
    metrics = [(run.name, run.read_metrics(run.read_manifest())) for run in opened]
    for run, (_, frame) in zip(opened, metrics, strict=True):
        if frame.empty:
            raise UserError(f"run {run.path} has no finished epoch to draw")
    folder = to or (opened[0].figures if len(opened) == 1 else Path("figures"))
    if problem := write_problem(folder):
        raise UserError(f"cannot write figures to {folder}: {problem}")
    for path in _draw(opened, metrics, folder, file_formats, published):
        print_line(stdout, str(path))


def _draw(
    runs: "Sequence[RunDirectory]",
    metrics: "Sequence[tuple[str, DataFrame]]",
    folder: Path,
    formats: list[str],
    published: str | None,
) -> list[Path]:
    """Draw the figures of a grid if the only run is one, else the curves of all runs."""
    from rkkd_cli.cli.output.stored_run import resolve_published
    from rkkd_cli.config.presets import published_path, read_experiment

    source = resolve_published(published, runs) if published else None
    if len(runs) == 1 and read_experiment(runs[0].experiment).vary:
        from rkkd_cli.analysis.grid_run import read_grid_run
        from rkkd_cli.cli.output import grid_result

        grid = read_grid_run(runs[0], runs[0].read_manifest(), published=source)
        return grid_result.draw_figures(grid, folder, formats)
    from rkkd_cli.analysis.published_curves import read_published_curves
    from rkkd_cli.report.curves import draw_figures

    curves = read_published_curves(published_path(source)) if source else None
    return draw_figures(metrics, folder, formats, curves)


def _parse_formats(text: str) -> list[str]:
    from rkkd_cli.report.style import FORMATS

    formats = [name.strip().lower() for name in text.split(",")]
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    return formats
