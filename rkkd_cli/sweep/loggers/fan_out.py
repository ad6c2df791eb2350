"""Tells each logger what it lacks, once, and gives up the one that fails."""

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.records.metrics import ROW_KEY
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.jobs import Cell
from rkkd_cli.sweep.loggers.logger import Logged, Logger, Point

Tell = Callable[[str], None]


class Loggers:
    """The loggers of a run, by the names of their flags; none is the usual case.

    A run that goes on trains the epochs after its last checkpoint again, and they come out the
    same: a logger that has them is not told twice. One that was not there before is told all.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Logger]], tell: Tell) -> None:
        self.makers, self.tell = makers, tell
        self.loggers: dict[str, Logger] = {}
        self.known: dict[str, dict[Cell, int]] = {}
        self.epochs: dict[str, int] = {}
        self.last: dict[Cell, Point] = {}

    def begin(
        self, run: RunDirectory, run_id: str, experiment: Experiment, lines: Sequence[str]
    ) -> None:
        """Begin; ``lines`` are the header of metrics.csv and the rows that it already has."""
        if not self.makers:
            return
        arms = {arm.name: arm for arm in experiment.resolved_arms}
        self.epochs = {name: arm.experiment.training.epochs for name, arm in arms.items()}
        logged = Logged(run, run_id, arms)
        for name, make in self.makers.items():
            try:
                self.loggers[name] = make()
                self.known[name] = dict(self.loggers[name].begin(logged))
            except Exception as error:
                self._give_up(name, error)
        self.rows(csv.DictReader(lines), experiment.vary)

    def rows(self, rows: Iterable[Mapping[str, Any]], varied: Iterable[str]) -> None:
        """Tell of rows that are in metrics.csv now."""
        if not self.loggers:
            return
        for row in rows:
            point = _point(row, set(varied))
            self.last[point.cell] = point
            for name, logger in list(self.loggers.items()):
                if self.known[name].get(point.cell, 0) < point.epoch:
                    self._try(name, partial(logger.row, point))
                    self.known[name][point.cell] = point.epoch

    def end(self, ended_early: Iterable[Cell]) -> None:
        """End. No more rows will have the cells at their last epoch and those that ended early."""
        early = set(ended_early)
        last = {
            cell: point
            for cell, point in self.last.items()
            if cell in early or point.epoch >= self.epochs[point.arm]
        }
        for name, logger in list(self.loggers.items()):
            self._try(name, partial(logger.end, last))

    def _try(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # whatever a library raises: the run goes on
            self._give_up(name, error)

    def _give_up(self, name: str, error: Exception) -> None:
        self.loggers.pop(name, None)
        what = " ".join(f"{type(error).__name__}: {error}".split())
        self.tell(f"--{name} is given up ({what}); the run goes on, and metrics.csv has all of it")


def _point(row: Mapping[str, Any], varied: set[str]) -> Point:
    left_out = {*ROW_KEY, *varied}
    given = {k: float(v) for k, v in row.items() if k not in left_out and v not in ("", None)}
    finite = {name: value for name, value in given.items() if math.isfinite(value)}
    return Point(str(row["arm"]), int(row["seed"]), int(row["epoch"]), finite)
