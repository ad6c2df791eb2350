"""All figures of runs or of a grid, by file name: drawn when they are called for, or saved."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from matplotlib import rc_context
from matplotlib.figure import Figure

from rkkd_cli.analysis.grid_run import GridRecord
from rkkd_cli.analysis.pairing import RunRecord
from rkkd_cli.analysis.published_curves import PublishedCurves
from rkkd_cli.records.detections import DetectionSheet
from rkkd_cli.records.retrieval import RetrievalSheet
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.report.curves import metric_figures, run_figures
from rkkd_cli.report.detection_picture import DetectionPicture, read_detections
from rkkd_cli.report.detections import detections_figure
from rkkd_cli.report.grid_figures import grid_figures
from rkkd_cli.report.grid_picture import GridPicture
from rkkd_cli.report.picture import CurvePicture
from rkkd_cli.report.retrieval import retrieval_figure
from rkkd_cli.report.retrieval_picture import RetrievalPicture, read_sheets
from rkkd_cli.report.style import STYLE, save_figure

Figures = Mapping[str, Callable[[], Figure]]
Sheet = TypeVar("Sheet", RetrievalSheet, DetectionSheet)


def figures_of_runs(
    records: Sequence[RunRecord],
    directories: Sequence[RunDirectory] = (),
    published: PublishedCurves | None = None,
    metrics: Sequence[str] = (),
) -> Figures:
    """Return what draws the figures of runs: all, or one for each of the ``metrics``.

    The ``directories`` of the runs have their sheets of what arms find, if there are any. Raises
    UserError for a metric that the runs have no values of.
    """
    picture = CurvePicture.of(records, published)
    if metrics:
        return metric_figures(picture, metrics)
    figures = run_figures(picture)
    if found := _sheets(directories, records, read_sheets):
        figures["retrieval"] = lambda: retrieval_figure(RetrievalPicture.of(found))
    if detected := _sheets(directories, records, read_detections):
        figures["detections"] = lambda: detections_figure(DetectionPicture.of(detected))
    return figures


def figures_of_grid(grid: GridRecord) -> Figures:
    """Return what draws the figures of a grid: none without finished cells."""
    return grid_figures(GridPicture.of(grid)) if grid.has_cells else {}


def _sheets(
    directories: Sequence[RunDirectory],
    records: Sequence[RunRecord],
    read: Callable[[RunDirectory, Sequence[str]], Sequence[Sheet]],
) -> list[tuple[str, Sheet]]:
    """Return the sheets of the runs' arms, each with its label; several runs are named."""
    return [
        (sheet.arm if len(directories) == 1 else f"{record.name}: {sheet.arm}", sheet)
        for run, record in zip(directories, records, strict=bool(directories))
        for sheet in read(run, record.arms)
    ]


def draw(figure: Callable[[], Figure]) -> Figure:
    """Return the figure, drawn in the style of rkkd."""
    with rc_context(STYLE):
        return figure()


def save_figures(figures: Figures, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Save the figures in the folder, as PNG, SVG or PDF; return the files."""
    paths: list[Path] = []
    if figures:
        folder.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        for name, figure in figures.items():
            paths += save_figure(figure(), folder, name, formats)
    return paths
