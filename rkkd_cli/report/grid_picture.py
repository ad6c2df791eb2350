"""What the figures of a grid show, and their labels and colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from rkkd_cli.analysis.grid_run import GridRecord
from rkkd_cli.analysis.grid_tables import (
    GridTable,
    finished_baselines,
    finished_cells,
    format_value,
    grid_tables,
    seeds_text,
)
from rkkd_cli.analysis.published import ComparedAccuracy
from rkkd_cli.analysis.selection import EpochSelection
from rkkd_cli.analysis.summary import MeanStd
from rkkd_cli.errors import printable
from rkkd_cli.report.picture import run_title
from rkkd_cli.report.style import shorten_label
from rkkd_cli.report.words import Quantity, quantity_of

MAX_FACETS = 12
MAX_LEVEL_LETTERS = 8
DIVERGING = "PuOr"


@dataclass(frozen=True)
class GridPicture:
    """A grid to draw: its rows and keys, and the references to compare with, in percent.

    ``published`` has published accuracies by arm.
    """

    title: str
    frame: pd.DataFrame
    keys: tuple[str, ...]
    selection: EpochSelection
    references: Mapping[str, float]
    published: Mapping[str, ComparedAccuracy] = field(default_factory=dict)

    @classmethod
    def of(cls, grid: GridRecord) -> "GridPicture":
        """Return the picture of a grid's record."""
        title = run_title(grid.run.name, grid.experiment, grid.manifest)
        return cls(title, grid.frame, grid.keys, grid.selection, grid.references, grid.published)

    @property
    def metric(self) -> Quantity:
        """The metric of the cells."""
        return quantity_of(self.selection.metric)

    @property
    def subtitle(self) -> str:
        """Which epoch counts, and how many seeds there are."""
        seeds = seeds_text(self.means["n"].tolist())
        mean = seeds if seeds == "one seed" else f"mean of {seeds}"
        return f"{self.selection.description}, {mean}"

    @property
    def tables(self) -> list[GridTable]:
        """One table per combination of the third and further keys."""
        return grid_tables(self.frame, self.keys, self.selection.column, self.published)

    @property
    def means(self) -> pd.DataFrame:
        """Each finished cell: its keys, the mean ``acc`` over its seeds, and their number ``n``."""
        cells = finished_cells(self.frame)
        accuracies = cells.groupby(list(self.keys), sort=False)[self.selection.column]
        return accuracies.agg(acc="mean", n="count").reset_index().dropna(subset="acc")

    @property
    def baselines(self) -> dict[str, MeanStd]:
        """The accuracy of each finished baseline, in percent."""
        return finished_baselines(self.frame, self.selection.column)


def value_labels(values: Sequence[Any]) -> list[str]:
    """Return the values of a key as the labels of an axis, without the middle of long ones."""
    return [shorten_label(printable(format_value(value))) for value in values]


def label_inches(labels: Sequence[str]) -> float:
    """Return the height of labels that stand aslant; labels that are short lie level: 0."""
    longest = max(map(len, labels))
    return 0.045 * longest if longest > MAX_LEVEL_LETTERS else 0.0


def label_columns(axes: Axes, values: Sequence[Any]) -> None:
    """Label the horizontal axis with the values of a key; long ones stand aslant."""
    labels = value_labels(values)
    axes.set_xticks(range(len(labels)), labels)
    if label_inches(labels):
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")


def colour_scale(arrays: Sequence[Any], centred: bool = False) -> Normalize:
    """Return the scale from the least to the largest value, or one ``centred`` on zero.

    NaN does not count. Without any value, or for equal ones, the scale is one unit wide.
    """
    values = np.concatenate([np.ravel(array) for array in arrays])
    values = values[np.isfinite(values)]
    if centred:
        largest = float(np.abs(values).max(initial=0.0)) or 1.0
        return Normalize(-largest, largest)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    return Normalize(low, high if high > low else low + 1)
