"""A run on the disk, in Python: its rows, comparisons, findings, figures and trained students."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pandas as pd

from rkkd_cli.analysis.findings import Finding, judge_findings
from rkkd_cli.analysis.grid_run import read_grid_run
from rkkd_cli.analysis.pairing import RunRecord, chosen_pairs, compare_runs, compare_within
from rkkd_cli.analysis.published_curves import read_published_curves
from rkkd_cli.analysis.stored_run import record_of
from rkkd_cli.analysis.summary import summarise, summary_table
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import published_path, read_experiment
from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.records import DEFAULT_RESULTS
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.records.run_directory import open_run as open_directory
from rkkd_cli.report.comparison_text import comparison_row
from rkkd_cli.report.figures import draw, figures_of_grid, figures_of_runs
from rkkd_cli.train.events import WeightsKind

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rkkd_cli.sweep.students.student import Student


class Run:
    """A run on the disk, finished or not. Everything is read when it is asked for.

    Metrics are raw terms, KL in nats × T², and accuracies in percent. Methods raise UserError for
    what the run does not have, also if it has no finished epoch yet.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    def __repr__(self) -> str:
        """Return the call that opens the run."""
        return f"open_run({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._directory.path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self._directory.name

    @property
    def experiment(self) -> Experiment:
        """The experiment as the run has recorded it."""
        return read_experiment(self._directory.experiment)

    @property
    def manifest(self) -> Manifest:
        """Datasets, teachers, students, versions, warnings: see manifest.json."""
        return self._directory.read_manifest()

    @property
    def status(self) -> str:
        """The run's state: finished, incomplete, running, interrupted, failed or dead."""
        return self._directory.status(self.manifest)

    @property
    def arms(self) -> list[str]:
        """The arms that have rows, in the order of the file."""
        return self._record.arms

    @property
    def metrics(self) -> pd.DataFrame:
        """The rows of metrics.csv: one for each arm, seed and epoch."""
        return self._record.metrics

    @property
    def cells(self) -> pd.DataFrame:
        """The rows of a grid's grid.csv: one for each cell and seed."""
        return read_grid_run(self._directory, self.manifest).frame

    @property
    def _record(self) -> RunRecord:
        return record_of(self._directory, self._directory.handle)

    def summary(self) -> pd.DataFrame:
        """Return a row for each arm at its last epoch: mean and ``_std`` over its ``n`` seeds."""
        record = self._record
        return summary_table(summarise(record.metrics, record.ended_early()))

    def compare(
        self, *others: "str | Run", metrics: Sequence[str] | None = None, select: str = "last"
    ) -> pd.DataFrame:
        """Return a row for each pair of arms and metric: ``other`` − ``one``, and how sure it is.

        Args:
            others: arms to compare (one: with all others; none: all pairs), or another run.
            metrics: columns of metrics.csv; default: those that the task is judged by.
            select: the epoch that counts: ``last``, ``best`` or ``val``.

        The columns are those of ``rkkd compare --format csv``.
        """
        record = self._record
        metrics = [metrics] if isinstance(metrics, str) else metrics
        columns = record.experiment.task_records.compared_columns if metrics is None else metrics
        arms = [other for other in others if isinstance(other, str)]
        runs = [other for other in others if isinstance(other, Run)]
        if len(runs) > 1 or (runs and arms):
            raise UserError("compare takes arms of this run, or one other run")
        if runs:
            compared = compare_runs(record, runs[0]._record, columns, select)
        else:
            compared = compare_within(record, columns, chosen_pairs(record, arms), select)
        return pd.DataFrame([comparison_row(comparison) for comparison in compared])

    def findings(self, *arms: str) -> list[Finding]:
        """Return the verdicts on the study's claims and the preset's own; of these arms, if any."""
        record = self._record
        return judge_findings(
            record.experiment, record.metrics, arms or None, record.ended_early(),
            record.manifest.teachers,
        )  # fmt: skip

    def figures(self, *metrics: str, published: str | Path | None = None) -> "dict[str, Figure]":
        """Return the figures of ``rkkd plot`` by name, such as ``sheet``; or one for each metric.

        ``published`` is a preset or a CSV file with published curves, or with a grid's accuracies.
        """
        record, source = self._record, None if published is None else str(published)
        if record.experiment.vary and not metrics:
            grid = read_grid_run(self._directory, record.manifest, published=source)
            figures = figures_of_grid(grid)
        else:
            curves = read_published_curves(published_path(source)) if source else None
            figures = figures_of_runs([record], [self._directory], curves, metrics)
        return {name: draw(figure) for name, figure in figures.items()}

    def student(
        self, arm: str, seed: int | None = None, weights: WeightsKind = "final"
    ) -> "Student":
        """Return a trained student: its ``module``, in eval mode, and the ``facts`` of its images.

        The module takes (B, C, H, W) float32 images, (pixels / 255 − ``facts.mean``) /
        ``facts.std``, and returns logits (B, classes), or with ``task = "embedding"`` (B, D). A
        detector is torchvision's own.

        Args:
            arm: the name of an arm.
            seed: default: the first one of the run.
            weights: ``final``, after the last epoch; ``best`` or ``ema`` if the run has kept them.
        """
        from rkkd_cli.sweep.students.student import check_code, read_student

        if weights not in get_args(WeightsKind):
            raise unknown_name("weights", str(weights), get_args(WeightsKind))
        check_code(self._directory)
        return read_student(self._directory, arm, None if seed is None else int(seed), weights)


def open_run(run: str | Path, results: str | Path = DEFAULT_RESULTS) -> Run:
    """Return a run by its name in ``results``, or by its folder. Raises UserError."""
    return Run(open_directory(str(run), Path(results)))
