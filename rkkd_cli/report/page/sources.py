"""What a page shows: the records of runs, and the published values to compare them with."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from rkkd_cli.analysis.grid_run import GridRecord
from rkkd_cli.analysis.pairing import RunRecord
from rkkd_cli.analysis.published import ComparedAccuracy, read_published
from rkkd_cli.analysis.published_csv import has_accuracies, has_curves
from rkkd_cli.analysis.published_curves import PublishedCurves, read_published_curves
from rkkd_cli.config.presets import published_path, read_experiment
from rkkd_cli.errors import UserError
from rkkd_cli.records.detections import DetectionSheet
from rkkd_cli.records.retrieval import RetrievalSheet
from rkkd_cli.records.run_directory import EXPERIMENT, MANIFEST, METRICS, RunDirectory
from rkkd_cli.report.detection_picture import read_detections
from rkkd_cli.report.grid_picture import GridPicture
from rkkd_cli.report.grid_text import reference_notes
from rkkd_cli.report.retrieval_picture import read_sheets


@dataclass(frozen=True)
class PageGrid:
    """The picture of a grid, and the sentences below its tables."""

    picture: GridPicture
    notes: Sequence[str]


@dataclass(frozen=True)
class PageRun(RunRecord):
    """One run: its records, files' contents, published accuracies by arm, and sheets."""

    files: Mapping[str, bytes]
    published: Mapping[str, ComparedAccuracy] = field(default_factory=dict)
    grid: PageGrid | None = None
    sheets: Sequence[RetrievalSheet] = ()
    detections: Sequence[DetectionSheet] = ()

    @classmethod
    def read(cls, run: RunDirectory, published: str | None) -> "PageRun":
        """Read a run, and the accuracies that a file or preset states for its arms or cells.

        Raises UserError, also for a run without rows.
        """
        manifest = run.read_manifest()
        experiment = read_experiment(run.experiment)
        metrics = run.read_metrics(manifest)
        if metrics.empty:
            raise UserError(f"run {run.path} has no finished epoch to report")
        files = {name: (run.path / name).read_bytes() for name in (METRICS, EXPERIMENT, MANIFEST)}
        compared: Mapping[str, ComparedAccuracy] = {}
        grid, task = None, experiment.task_records
        if experiment.vary:
            record = GridRecord.of(run, manifest, experiment, metrics, published=published)
            if record.has_cells:
                grid = PageGrid(GridPicture.of(record), reference_notes(record))
        elif published and has_accuracies(published_path(published), task):
            path = published_path(published)
            ignored = [UserError] if has_curves(path) else []  # curves are drawn anyway
            with suppress(*ignored):
                stated = read_published(path, experiment)
                compared = stated.beside(metrics, manifest.cells_ended_early)
        status = run.status(manifest)
        arms = [str(arm) for arm in metrics["arm"].unique()]
        return cls(
            run.name, experiment, manifest, metrics, status, files, compared, grid,
            read_sheets(run, arms), read_detections(run, arms),
        )  # fmt: skip


@dataclass(frozen=True)
class PageSource:
    """All that a page shows. The ``published`` curves are drawn with those of all runs."""

    runs: Sequence[PageRun]
    published: PublishedCurves | None = None

    @classmethod
    def read(cls, runs: Sequence[RunDirectory], published: str | None) -> "PageSource":
        """Read runs, and the published values of a file or preset. Raises UserError."""
        pages = [PageRun.read(run, published) for run in runs]
        if published is None or not has_curves(published_path(published)):
            return cls(pages)
        return cls(pages, read_published_curves(published_path(published)))
