"""A grid as tables: rows of the first varied key, columns of the second.

Each combination of the further keys has a table of its own.
"""

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rkkd_cli.analysis.published import PublishedGrid
from rkkd_cli.analysis.summary import MeanStd, mean_std
from rkkd_cli.config.grid import is_baseline

ROUNDING = 1e-9  # points of accuracy by which means of the same values may differ
CellKey = tuple[Any, Any]  # the value of the row's key, and that of the column's


@dataclass(frozen=True)
class GridTable:
    """The accuracies of a table's cells, in percent, and those that are published.

    ``facet`` holds the values of the third and further keys. A grid of one key has one column,
    None.
    """

    facet: dict[str, Any]
    keys: tuple[str, ...]
    rows: tuple[Any, ...]
    columns: tuple[Any, ...]
    cells: dict[CellKey, MeanStd]
    published: dict[CellKey, float]

    @property
    def best(self) -> set[CellKey]:
        """The cells that share the best mean of the table."""
        return self._best_of(self.cells)

    @property
    def best_of_columns(self) -> set[CellKey]:
        """The cells that share the best mean of their column."""
        columns = ([cell for cell in self.cells if cell[1] == column] for column in self.columns)
        return set().union(*map(self._best_of, columns))

    def _best_of(self, cells: Iterable[CellKey]) -> set[CellKey]:
        means = {cell: self.cells[cell].mean for cell in cells}
        best = max(means.values(), default=0.0)
        return {cell for cell, mean in means.items() if is_as_good(mean, best)}


def is_as_good(mean: float, best: float) -> bool:
    """Whether a mean is not below another one, but for the rounding of sums."""
    return mean >= best - ROUNDING


def seeds_text(counts: Collection[int]) -> str:
    """Return how many seeds cells have: ``one seed``, ``3 seeds`` or ``1 to 3 seeds``."""
    least, most = min(counts, default=0), max(counts, default=0)
    if most == 1:
        return "one seed"
    return f"{most} seeds" if least == most else f"{least} to {most} seeds"


def short_key(key: str, keys: Sequence[str]) -> str:
    """Return the last part of a key, or the whole key where another one has the same last part."""
    last = key.rpartition(".")[2]
    return last if [name.rpartition(".")[2] for name in keys].count(last) == 1 else key


def format_value(value: Any) -> str:
    """Return a value of a varied key as tables and figures show it."""
    if isinstance(value, float | np.floating):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool | np.bool_) else str(value)


def key_values(frame: pd.DataFrame, key: str) -> list[Any]:
    """Return the values of a varied key: numbers ascending, others in the order of the frame."""
    values = frame[key].dropna().unique().tolist()
    are_numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return sorted(values) if are_numbers else values


def finished_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the finished cells, without baselines."""
    return frame[~frame["arm"].map(is_baseline).astype(bool) & (frame["status"] == "done")]


def finished_baselines(frame: pd.DataFrame, column: str) -> dict[str, MeanStd]:
    """Return the accuracy of each finished baseline."""
    rows = frame[frame["arm"].map(is_baseline).astype(bool) & (frame["status"] == "done")]
    return {str(arm): mean_std(seeds[column]) for arm, seeds in rows.groupby("arm", sort=False)}


def grid_tables(
    frame: pd.DataFrame, keys: Sequence[str], column: str, published: PublishedGrid | None = None
) -> list[GridTable]:
    """Return one table for each combination of the values of the third and further keys."""
    cells = finished_cells(frame)
    axes, further = tuple(keys[:2]), tuple(keys[2:])
    rows = tuple(key_values(cells, axes[0]))
    columns = tuple(key_values(cells, axes[1])) if len(axes) > 1 else (None,)
    tables = []
    for combination in itertools.product(*(key_values(cells, key) for key in further)):
        facet = dict(zip(further, combination, strict=True))
        in_facet = cells
        for key, value in facet.items():
            in_facet = in_facet[in_facet[key] == value]
        if len(in_facet):
            accuracies = _accuracies(in_facet, axes, column)
            stated = published.accuracies(facet, axes, rows, columns) if published else {}
            tables.append(GridTable(facet, tuple(keys), rows, columns, accuracies, stated))
    return tables


def _accuracies(frame: pd.DataFrame, axes: Sequence[str], column: str) -> dict[CellKey, MeanStd]:
    """Return the accuracy of each cell that has one in every seed."""
    return {
        (values[0], values[1] if len(values) > 1 else None): mean_std(seeds[column])
        for values, seeds in frame.groupby(list(axes), sort=False)
        if seeds[column].notna().all()
    }
