"""A grid as tables: rows of the first varied key, columns of the second.

Each combination of the further keys has a table of its own.
"""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rkkd_cli.analysis.published import ComparedAccuracy
from rkkd_cli.analysis.summary import MeanStd, mean_std
from rkkd_cli.config.grid import is_baseline

NONE_PUBLISHED: Mapping[str, ComparedAccuracy] = {}
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
    published: dict[CellKey, ComparedAccuracy]

    @property
    def published_accuracies(self) -> dict[CellKey, float]:
        """The published accuracy of each cell that has one."""
        return {cell: compared.published.acc for cell, compared in self.published.items()}

    @property
    def differences(self) -> dict[CellKey, float]:
        """Measured − published of each finished cell, in points."""
        return {
            cell: compared.difference
            for cell, compared in self.published.items()
            if cell in self.cells and compared.difference is not None
        }

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
    frame: pd.DataFrame,
    keys: Sequence[str],
    column: str,
    published: Mapping[str, ComparedAccuracy] = NONE_PUBLISHED,
) -> list[GridTable]:
    """Return one table for each combination of the values of the third and further keys.

    ``published`` has the published accuracies by arm, also of cells that are not finished.
    """
    cells = finished_cells(frame)
    axes, further = tuple(keys[:2]), tuple(keys[2:])
    rows = tuple(key_values(cells, axes[0]))
    columns = tuple(key_values(cells, axes[1])) if len(axes) > 1 else (None,)
    tables = []
    for combination in itertools.product(*(key_values(cells, key) for key in further)):
        facet = dict(zip(further, combination, strict=True))
        in_facet = _in_facet(cells, facet)
        if len(in_facet):
            accuracies = _accuracies(in_facet, axes, column)
            of_facet = _published_cells(_in_facet(frame, facet), axes, published)
            stated = {c: of_facet[c] for c in itertools.product(rows, columns) if c in of_facet}
            tables.append(GridTable(facet, tuple(keys), rows, columns, accuracies, stated))
    return tables


def _in_facet(frame: pd.DataFrame, facet: Mapping[str, Any]) -> pd.DataFrame:
    for key, value in facet.items():
        frame = frame[frame[key] == value]
    return frame


def _published_cells(
    frame: pd.DataFrame, axes: Sequence[str], published: Mapping[str, ComparedAccuracy]
) -> dict[CellKey, ComparedAccuracy]:
    stated = frame[frame["arm"].isin(published) & ~frame["arm"].map(is_baseline).astype(bool)]
    cells = stated.drop_duplicates("arm")[["arm", *axes]].itertuples(index=False, name=None)
    return {(cell[0], cell[1] if len(cell) > 1 else None): published[arm] for arm, *cell in cells}


def _accuracies(frame: pd.DataFrame, axes: Sequence[str], column: str) -> dict[CellKey, MeanStd]:
    """Return the accuracy of each cell that has one in every seed."""
    return {
        (values[0], values[1] if len(values) > 1 else None): mean_std(seeds[column])
        for values, seeds in frame.groupby(list(axes), sort=False)
        if seeds[column].notna().all()
    }
