"""Gives each logger the rows that it lacks, once, and gives up a logger that fails."""

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.records.metrics import ROW_KEY
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.jobs import Cell
from rkkd_cli.sweep.loggers.logger import LoggedRun, Logger, Point, RunFiles

Warn = Callable[[str], None]
WEIGHTS = ("final", "best", "ema")


class Loggers:
    """The loggers of a run, by the names of their flags. Usually there are none.

    A run that resumes trains the epochs after its last checkpoint again, with the same numbers: a
    logger that has them does not get them twice. A logger that is new to the run gets all rows.
    ``tags`` are the user's words for the run.
    """

    def __init__(
        self,
        factories: Mapping[str, Callable[[], Logger]],
        warn: Warn,
        tags: tuple[str, ...] = (),
    ) -> None:
        self.factories, self.warn, self.tags = factories, warn, tags
        self.loggers: dict[str, Logger] = {}
        self.logged_epochs: dict[str, dict[Cell, int]] = {}  # by logger
        self.epochs: dict[str, int] = {}  # of each arm
        self.last: dict[Cell, Point] = {}

    def begin(
        self, run: RunDirectory, run_id: str, experiment: Experiment, lines: Sequence[str]
    ) -> None:
        """Begin; ``lines`` are the header of metrics.csv and the rows that it already has."""
        if not self.factories:
            return
        arms = {arm.name: arm for arm in experiment.resolved_arms}
        self.epochs = {name: arm.experiment.training.epochs for name, arm in arms.items()}
        logged_run = LoggedRun(run, run_id, arms, self.tags)
        for name, factory in self.factories.items():
            try:
                self.loggers[name] = factory()
                self.logged_epochs[name] = dict(self.loggers[name].begin(logged_run))
            except Exception as error:
                self._give_up(name, error)
        self.rows(csv.DictReader(lines), experiment.vary)

    def rows(self, rows: Iterable[Mapping[str, Any]], varied: Iterable[str]) -> None:
        """Log rows that have been written to metrics.csv."""
        if not self.loggers:
            return
        for row in rows:
            point = _point(row, set(varied))
            self.last[point.cell] = point
            for name, logger in list(self.loggers.items()):
                if self.logged_epochs[name].get(point.cell, 0) < point.epoch:
                    self._try(name, partial(logger.row, point))
                    self.logged_epochs[name][point.cell] = point.epoch

    def end(self, ended_early: Iterable[Cell]) -> None:
        """End. Cells at their last epoch, and those that ended early, will get no more rows."""
        early = set(ended_early)
        last = {
            cell: point
            for cell, point in self.last.items()
            if cell in early or point.epoch >= self.epochs[point.arm]
        }
        for name, logger in list(self.loggers.items()):
            self._try(name, partial(logger.end, last))

    def files(self, run: RunDirectory, table: pd.DataFrame) -> None:
        """Log the figures and weights of a run that has ended, and its final table."""
        if not self.loggers:
            return
        weights = {
            cell: [path for kind in WEIGHTS if (path := run.weights(kind, *cell)).is_file()]
            for cell in self.last
        }
        files = RunFiles(sorted(run.figures.glob("*.png")), table, weights)
        for name, logger in list(self.loggers.items()):
            self._try(name, partial(logger.files, files))

    def _try(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # a library may raise anything, and the run must continue
            self._give_up(name, error)

    def _give_up(self, name: str, error: Exception) -> None:
        self.loggers.pop(name, None)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        self.warn(
            f"--{name} is given up ({reason}); the run continues, and metrics.csv has all rows"
        )


def _point(row: Mapping[str, Any], varied: set[str]) -> Point:
    excluded = {*ROW_KEY, *varied}
    columns = [name for name, value in row.items() if value not in ("", None)]
    values = {name: float(row[name]) for name in columns if name not in excluded}
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    return Point(str(row["arm"]), int(row["seed"]), int(row["epoch"]), finite)
