"""``rkkd plot``: the curves of one run, or of several in one figure."""

from pathlib import Path

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.cli.flags.runs import OUT, PUBLISHED, RUNS
from rkkd_cli.errors import UserError, unknown_name


@takes(
    RUNS,
    Flag("to", Path | None,
         "Folder for the figures; default: the run's own, or ./figures for several."),
    Flag("formats", str, "File format of the figures: png, svg or pdf; a comma list for several.",
         default="png", option=("--format",)),
    Flag("metric", list[str] | None, "Draw this column of metrics.csv and its paired differences "
         "instead; may be given again.", metavar="NAME"),
    PUBLISHED, OUT,
)  # fmt: skip
def plot(
    runs: list[str] | None,
    to: Path | None,
    formats: str,
    metric: list[str] | None,
    published: str | None,
    out: Path,
) -> None:
    """Draw ranking loss, KL and test accuracy, their paired differences, and a grid's figures."""
    from rkkd_cli.analysis.grid_run import read_grid_run
    from rkkd_cli.analysis.published_curves import read_published_curves
    from rkkd_cli.analysis.stored_run import record_of, resolve_published
    from rkkd_cli.cli.output.console import out as stdout
    from rkkd_cli.cli.output.console import print_line
    from rkkd_cli.config.presets import published_path
    from rkkd_cli.files import write_problem
    from rkkd_cli.records.run_directory import newest_run, open_run
    from rkkd_cli.report.figures import figures_of_grid, figures_of_runs, save_figures

    file_formats = _parse_formats(formats)
    opened = [open_run(run, out) for run in runs] if runs else [newest_run(out)]
    records = [record_of(run, run.name) for run in opened]
    folder = to or (opened[0].figures if len(opened) == 1 else Path("figures"))
    if problem := write_problem(folder):
        raise UserError(f"cannot write figures to {folder}: {problem}")
    source = resolve_published(published, opened) if published else None
    if len(opened) == 1 and records[0].experiment.vary and not metric:
        grid = read_grid_run(opened[0], opened[0].read_manifest(), published=source)
        figures = figures_of_grid(grid)
    else:
        curves = read_published_curves(published_path(source)) if source else None
        figures = figures_of_runs(records, opened, curves, [*dict.fromkeys(metric or ())])
    for path in save_figures(figures, folder, file_formats):
        print_line(stdout, str(path))


def _parse_formats(text: str) -> list[str]:
    from rkkd_cli.report.style import FORMATS

    formats = [name.strip().lower() for name in text.split(",")]
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    return formats
