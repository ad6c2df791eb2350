"""The interface of loggers, and what they are given."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import pandas as pd

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


class RunFiles(NamedTuple):
    """What a run leaves at its end.

    ``figures`` are PNG files. ``table`` has a row per arm: mean and deviation over seeds.
    ``weights`` has the safetensors files of each cell, in the folders ``final`` and ``best``.
    """

    figures: Sequence[Path]
    table: pd.DataFrame
    weights: Mapping[Cell, Sequence[Path]]


@dataclass(frozen=True)
class LoggedRun:
    """A run that is logged: its directory, its id, its arms by their names, and the user's tags."""

    directory: RunDirectory
    id: str
    arms: Mapping[str, Arm]
    tags: tuple[str, ...] = ()

    @property
    def cells(self) -> list[Cell]:
        """All arms with their seeds."""
        return [(name, seed) for name, arm in self.arms.items() for seed in arm.experiment.seeds]

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
        """Begin, or continue; return the last epoch that is already logged of each cell.

        Whatever can fail should fail here: the user is told before the training begins.
        """

    def row(self, point: Point) -> None:
        """Log an epoch of a cell. Each comes once, in order."""

    def end(self, last: Mapping[Cell, Point]) -> None:
        """End for now; ``last`` has the last epoch of the cells that will get no more."""

    def files(self, files: RunFiles) -> None:
        """Log what the run leaves, after ``end``."""
