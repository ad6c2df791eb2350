"""What a logger is, and what it is told."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import DESCRIPTION
from rkkd_cli.config.overrides import flatten
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.jobs import Cell

Setting = str | int | float | bool


class Point(NamedTuple):
    """A row of ``metrics.csv``: the columns that are numbers, those without a value left out."""

    arm: str
    seed: int
    epoch: int
    values: Mapping[str, float]

    @property
    def cell(self) -> Cell:
        """The arm and the seed."""
        return self.arm, self.seed


@dataclass(frozen=True)
class Logged:
    """A run that is logged: its directory, what identifies it, and what each cell was told."""

    run: RunDirectory
    id: str
    arms: Mapping[str, Arm]

    def settings(self, cell: Cell) -> dict[str, Setting]:
        """Return the cell's resolved experiment as flat keys: its hyper-parameters."""
        arm, seed = cell
        left_out = {*DESCRIPTION, "arms", "vary", "seeds"}
        flat = flatten(self.arms[arm].experiment.model_dump(mode="json", exclude=left_out))
        told = {key: value for key, value in flat.items() if value is not None}
        plain = {k: json.dumps(v) if isinstance(v, list) else v for k, v in told.items()}
        return {"arm": arm, "seed": seed, **plain}


class Logger(Protocol):
    """Where rows go. It may raise anything: whoever calls it copes."""

    def begin(self, logged: Logged) -> Mapping[Cell, int]:
        """Begin, or go on; return the last epoch that it has of each cell."""

    def row(self, point: Point) -> None:
        """Take in an epoch of a cell. Each comes once, in order."""

    def end(self, last: Mapping[Cell, Point]) -> None:
        """End for now; ``last`` has the last epoch of the cells that will have no more."""
