"""Figures of a grid: heatmaps, a marginal curve per varied key, parallel coordinates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from rkkd_cli.analysis.grid_run import GridRecord
from rkkd_cli.analysis.grid_tables import (
    CellKey,
    GridTable,
    finished_cells,
    format_value,
    grid_tables,
    key_values,
    short_key,
)
from rkkd_cli.analysis.published import PublishedGrid
from rkkd_cli.analysis.selection import EpochSelection
from rkkd_cli.errors import printable
from rkkd_cli.report.grid_text import facet_title
from rkkd_cli.report.style import COLOURS, STYLE, save_figure

MAX_FACETS = 12
MAX_LINES = 12
MAX_NUMBERED_CELLS = 400  # cells of a heatmap that still have room for their numbers
LABEL_BOX = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}


@dataclass(frozen=True)
class GridPicture:
    """A grid to draw: its rows and keys, and the references to compare with, in percent."""

    title: str
    frame: pd.DataFrame
    keys: tuple[str, ...]
    selection: EpochSelection
    references: Mapping[str, float]
    published: PublishedGrid | None = None

    @classmethod
    def of(cls, grid: GridRecord) -> "GridPicture":
        """Return the picture of a grid's record."""
        return cls(
            grid.run.name, grid.frame, grid.keys, grid.selection, grid.references, grid.published
        )

    @property
    def subtitle(self) -> str:
        """Which epoch counts, and how many seeds there are."""
        seeds = self.frame["seed"].nunique()
        mean = "one seed" if seeds == 1 else f"mean of {seeds} seeds"
        return f"{self.selection.description}, {mean}"

    @property
    def tables(self) -> list[GridTable]:
        """One table per combination of the third and further keys."""
        return grid_tables(self.frame, self.keys, self.selection.column, self.published)

    @property
    def means(self) -> pd.DataFrame:
        """The mean over seeds of each finished cell: its keys, and ``acc``."""
        cells = finished_cells(self.frame)
        means = cells.groupby(list(self.keys), sort=False)[self.selection.column].mean()
        return means.rename("acc").reset_index().dropna(subset="acc")


def grid_figures(picture: GridPicture) -> dict[str, Callable[[GridPicture], Figure]]:
    """Return the functions that draw the figures of such a grid, by file name."""
    figures: dict[str, Callable[[GridPicture], Figure]] = {"marginals": _draw_marginals}
    if len(picture.keys) > 1 and len(picture.tables) <= MAX_FACETS:
        figures["heatmap"] = _draw_heatmaps
    if len(picture.keys) > 2:
        figures["parallel"] = _draw_parallel
    return figures


def draw_grid(picture: GridPicture, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Save the figures of the grid in the folder; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    with rc_context(STYLE):
        for name, draw in grid_figures(picture).items():
            paths += save_figure(draw(picture), folder, name, formats)
    return paths


def _draw_heatmaps(picture: GridPicture) -> Figure:
    """Draw a heatmap per facet, then those of the published values and of the differences.

    Measured and published accuracies have colour scales of their own: their levels may differ much.
    """
    tables = picture.tables
    compared = any(table.published for table in tables)
    means = [_means_array(table) for table in tables]
    facets = [facet_title(table) for table in tables]
    titles = [facet or "measured" * compared for facet in facets]
    panels = [(*panel, colour_scale(means)) for panel in zip(titles, tables, means, strict=True)]
    if compared:
        stated = [_array(table, table.published) for table in tables]
        titles, scale = [_with_facet("published", facet) for facet in facets], colour_scale(stated)
        panels += [(*panel, scale) for panel in zip(titles, tables, stated, strict=True)]
    differences = [
        (
            _with_facet("measured − published", facet),
            table,
            measured - _array(table, table.published),
        )
        for facet, table, measured in zip(facets, tables, means, strict=True)
        if table.published
    ]
    across = min(3, len(tables)) if len(tables) > 1 else 1
    down = -(-(len(panels) + len(differences)) // across)
    columns, rows = len(tables[0].columns), len(tables[0].rows)
    size = (across * (1.6 + 0.62 * columns), down * (1.25 + 0.42 * rows) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    all_axes = iter(figure.subplots(down, across, squeeze=False).flat)
    for title, table, values, norm in panels:
        _draw_heatmap(next(all_axes), table, values, title, "viridis", norm)
    for title, table, values in differences:
        scale = colour_scale([values], centred=True)
        _draw_heatmap(next(all_axes), table, values, title, "PuOr", scale, "+.1f")
    for unused in all_axes:
        unused.set_axis_off()
    title = f"{picture.title}: test accuracy (%), {picture.subtitle}"
    figure.suptitle(printable(title), fontsize=10)
    return figure


def _means_array(table: GridTable) -> Any:
    return _array(table, {cell: accuracy.mean for cell, accuracy in table.cells.items()})


def _array(table: GridTable, values: Mapping[CellKey, float]) -> Any:
    rows = [[values.get((row, column), np.nan) for column in table.columns] for row in table.rows]
    return np.array(rows, dtype=float)


def _with_facet(title: str, facet: str) -> str:
    return f"{title}, {facet}" if facet else title


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


def _draw_heatmap(
    axes: Axes, table: GridTable, values: Any, title: str, colours: str, norm: Normalize,
    digits: str = ".1f",
) -> None:  # fmt: skip
    image = axes.imshow(values, cmap=colours, norm=norm, aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(len(table.columns)), value_labels(table.columns))
    axes.set_yticks(range(len(table.rows)), value_labels(table.rows))
    row_key, column_key = (short_key(key, table.keys) for key in table.keys[:2])
    axes.set(xlabel=column_key, ylabel=row_key)
    axes.set_title(printable(title), fontsize=9)
    if values.size <= MAX_NUMBERED_CELLS:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                red, green, blue, _ = image.cmap(norm(value))
                ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
                axes.text(column, row, format(value, digits), ha="center", va="center",
                          color=ink, fontsize=7.5)  # fmt: skip


def value_labels(values: Sequence[Any]) -> list[str]:
    """Return the values of a key as the labels of an axis."""
    return [printable(format_value(value)) for value in values]


def _draw_marginals(picture: GridPicture) -> Figure:
    """Draw, for each key, the mean over all others.

    A grid of two keys has thin lines too, one per value of the other key.
    """
    means, keys = picture.means, picture.keys
    figure = Figure(figsize=(max(5.2, 4.6 * len(keys)), 4.4), layout="constrained")
    panels = figure.subplots(1, len(keys), squeeze=False, sharey=True)[0]
    for axes, key in zip(panels, keys, strict=True):
        values = key_values(finished_cells(picture.frame), key)
        others = [other for other in keys if other != key]
        names = ", ".join(short_key(other, keys) for other in others)
        if len(keys) == 2 and len(key_values(means, others[0])) <= MAX_LINES:
            _draw_thin_lines(axes, means, key, values, others[0], names)
        overall = means.groupby(key)["acc"].mean()
        axes.plot(range(len(values)), [overall.get(value, np.nan) for value in values],
                  color="black", linewidth=2, marker="o", markersize=4,
                  label=f"mean over {names}" if others else "measured")  # fmt: skip
        if not others:
            _draw_error_bars(axes, picture, values)
        _draw_references(axes, picture)
        axes.set_xticks(range(len(values)), value_labels(values))
        axes.set_xlabel(short_key(key, keys))
        axes.legend(fontsize=7, ncols=3 if len(keys) == 2 else 1, loc="upper center",
                    bbox_to_anchor=(0.5, -0.16))  # fmt: skip
    panels[0].set_ylabel("test accuracy (%)")
    figure.suptitle(printable(f"{picture.title}: {picture.subtitle}"), fontsize=10)
    return figure


def _draw_thin_lines(
    axes: Axes, means: pd.DataFrame, key: str, values: Sequence[Any], other: str, name: str
) -> None:
    """Draw a line per value of the ``other`` key."""
    other_values = key_values(means, other)
    shades = colormaps["viridis"](np.linspace(0, 0.95, len(other_values)))
    for shade, other_value in zip(shades, other_values, strict=True):
        accuracies = means[means[other] == other_value].set_index(key)["acc"]
        heights = [accuracies.get(value, np.nan) for value in values]
        label = printable(f"{name} = {format_value(other_value)}")
        axes.plot(range(len(values)), heights, linewidth=0.9, alpha=0.8, color=shade, label=label)


def _draw_error_bars(axes: Axes, picture: GridPicture, values: Sequence[Any]) -> None:
    (table,) = picture.tables
    accuracies = [table.cells.get((value, None)) for value in values]
    if any(accuracy is not None and accuracy.std is not None for accuracy in accuracies):
        means = [accuracy.mean if accuracy else np.nan for accuracy in accuracies]
        stds = [accuracy.std or 0.0 if accuracy else np.nan for accuracy in accuracies]
        axes.errorbar(range(len(values)), means, stds, color="black", capsize=3, linestyle="none")


def _draw_references(axes: Axes, picture: GridPicture) -> None:
    """Draw the baselines and the teacher, unless they are far from the cells."""
    heights = picture.means["acc"]
    room = max(3 * float(heights.max() - heights.min()), 3.0)
    for index, (name, value) in enumerate(picture.references.items()):
        if heights.min() - room <= value <= heights.max() + room:
            axes.axhline(value, color=COLOURS[1 + index % 5], linewidth=1.2, linestyle=(0, (5, 2)),
                         label=printable(name))  # fmt: skip


def _draw_parallel(picture: GridPicture) -> Figure:
    """Draw a line per cell through its values, in the colour of its accuracy, the best on top."""
    means, keys = picture.means.sort_values("acc"), picture.keys
    figure = Figure(figsize=(1.9 * (len(keys) + 1) + 1, 4.2), layout="constrained")
    axes = figure.subplots()
    norm = colour_scale([means["acc"]])
    colours = ScalarMappable(norm, "viridis")
    heights = {key: _evenly_spaced(key_values(means, key)) for key in keys}
    for cell in means.to_dict("records"):
        line = [heights[key][cell[key]] for key in keys] + [float(norm(cell["acc"]))]
        axes.plot(range(len(line)), line, color=colours.to_rgba(cell["acc"]),
                  linewidth=1.1, alpha=0.8)  # fmt: skip
    for index, key in enumerate(keys):
        axes.axvline(index, color="#999999", linewidth=0.8)
        for value, height in heights[key].items():
            axes.annotate(printable(format_value(value)), (index, height), xytext=(4, 0),
                          textcoords="offset points", fontsize=7, va="center",
                          bbox=LABEL_BOX)  # fmt: skip
    axes.set_xticks(range(len(keys) + 1), [*(short_key(key, keys) for key in keys), "test acc"])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    figure.colorbar(colours, ax=axes, label="test accuracy (%)")
    figure.suptitle(printable(f"{picture.title}: {picture.subtitle}"), fontsize=10)
    return figure


def _evenly_spaced(values: Sequence[Any]) -> dict[Any, float]:
    """Return a height from 0 to 1 for each value, in their order."""
    if len(values) == 1:
        return {values[0]: 0.5}
    return {value: index / (len(values) - 1) for index, value in enumerate(values)}
