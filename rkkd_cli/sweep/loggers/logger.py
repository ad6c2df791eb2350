"""The interface of loggers, and what they are given."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import DESCRIPTION_TEXTS
from rkkd_cli.config.overrides import flatten
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.jobs import Cell

Setting = str | int | float | bool


class Point(NamedTuple):
    """A row of ``metrics.csv``: its numeric columns, without empty ones."""

    arm: str
    seed: int
    epoch: int
    values: Mapping[str, float]

    @property
    def cell(self) -> Cell:
        """The arm and the seed."""
        return self.arm, self.seed


@dataclass(frozen=True)
class LoggedRun:
    """A run that is logged: its directory, its id and its arms by their names."""

    directory: RunDirectory
    id: str
    arms: Mapping[str, Arm]

    def settings(self, cell: Cell) -> dict[str, Setting]:
        """Return the cell's resolved experiment as flat keys: its hyper-parameters."""
        arm, seed = cell
        excluded = {*DESCRIPTION_TEXTS, "arms", "vary", "seeds"}
        flat = flatten(self.arms[arm].experiment.model_dump(mode="json", exclude=excluded))
        settings = {
            key: json.dumps(value) if isinstance(value, list) else value
            for key, value in flat.items()
            if value is not None
        }
        return {"arm": arm, "seed": seed, **settings}


class Logger(Protocol):
    """Takes rows. It may raise anything; the caller handles that."""

    def begin(self, run: LoggedRun) -> Mapping[Cell, int]:
        """Begin, or continue; return the last epoch that is already logged of each cell."""

    def row(self, point: Point) -> None:
        """Log an epoch of a cell. Each comes once, in order."""

    def end(self, last: Mapping[Cell, Point]) -> None:
        """End for now; ``last`` has the last epoch of the cells that will get no more."""
