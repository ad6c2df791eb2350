"""A grid as tables: rows of the first varied key, columns of the second, one table a facet."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rkkd_cli.analysis.published import Published
from rkkd_cli.analysis.summary import Spread, spread
from rkkd_cli.config.grid import is_baseline

Place = tuple[Any, Any]


@dataclass(frozen=True)
class GridTable:
    """Accuracies in percent at each place (value of the row key, value of the column key).

    ``facet`` holds the values of the further keys; without a second key there is one column, None.
    Among equals, the first is the best.
    """

    facet: dict[str, Any]
    keys: tuple[str, ...]
    rows: tuple[Any, ...]
    columns: tuple[Any, ...]
    cells: dict[Place, Spread]
    published: dict[Place, float]

    @property
    def best(self) -> Place | None:
        """The place with the best mean of the table."""
        return _best(self.cells)

    @property
    def best_of_columns(self) -> set[Place]:
        """The places with the best mean of their column."""
        by_column = [
            _best({place: one for place, one in self.cells.items() if place[1] == column})
            for column in self.columns
        ]
        return {place for place in by_column if place is not None}


def _best(cells: Mapping[Place, Spread]) -> Place | None:
    return max(cells, key=lambda place: cells[place].mean, default=None)


def short(key: str, keys: Sequence[str]) -> str:
    """Return the last part of a key, or all of it where another one ends alike."""
    last = key.rpartition(".")[2]
    return last if [one.rpartition(".")[2] for one in keys].count(last) == 1 else key


def spelt(value: Any) -> str:
    """Return a value of a varied key as tables and figures show it."""
    if isinstance(value, float | np.floating):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool | np.bool_) else str(value)


def values_of(frame: pd.DataFrame, key: str) -> list[Any]:
    """Return the values of a varied key, numbers in their order."""
    values = frame[key].dropna().unique().tolist()
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
    return sorted(values) if numbers else values


def cells_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the finished cells, without baselines."""
    baseline = frame["arm"].map(is_baseline).astype(bool)
    return frame[~baseline & (frame["status"] == "done")]


def baselines_of(frame: pd.DataFrame, column: str) -> dict[str, Spread]:
    """Return mean and spread of each finished baseline."""
    rows = frame[frame["arm"].map(is_baseline).astype(bool) & (frame["status"] == "done")]
    return {str(arm): spread(one[column]) for arm, one in rows.groupby("arm", sort=False)}


def grid_tables(
    frame: pd.DataFrame, keys: Sequence[str], column: str, published: Published | None = None
) -> list[GridTable]:
    """Return one table for each combination of the values of the third and further keys."""
    cells = cells_of(frame)
    axes, further = tuple(keys[:2]), tuple(keys[2:])
    rows = tuple(values_of(cells, axes[0]))
    columns = tuple(values_of(cells, axes[1])) if len(axes) > 1 else (None,)
    tables = []
    for combination in itertools.product(*(values_of(cells, key) for key in further)):
        facet = dict(zip(further, combination, strict=True))
        part = cells
        for key, value in facet.items():
            part = part[part[key] == value]
        if len(part):
            found = _found(part, axes, column)
            stated = published.at(facet, axes, rows, columns) if published else {}
            tables.append(GridTable(facet, tuple(keys), rows, columns, found, stated))
    return tables


def _found(part: pd.DataFrame, axes: Sequence[str], column: str) -> dict[Place, Spread]:
    found = {}
    for values, one in part.groupby(list(axes), sort=False):
        place = (values[0], values[1] if len(values) > 1 else None)
        if one[column].notna().all():
            found[place] = spread(one[column])
    return found
