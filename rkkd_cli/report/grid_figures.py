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

from rkkd_cli.analysis.grid_tables import (
    GridTable,
    finished_cells,
    grid_tables,
    short_key,
    format_value,
    key_values,
)
from rkkd_cli.analysis.published import PublishedGrid
from rkkd_cli.analysis.selection import EpochSelection
from rkkd_cli.errors import printable
from rkkd_cli.report.grid_text import facet_title
from rkkd_cli.report.style import COLOURS, STYLE, save_figure

MOST_FACETS = 12
MOST_LINES = 12
LEGIBLE = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
ANNOTATED = 400  # places of a heatmap that still have room for their numbers


@dataclass(frozen=True)
class GridPicture:
    """What is drawn of a grid: its rows, its keys, and the lines to compare with, in percent."""

    title: str
    frame: pd.DataFrame
    keys: tuple[str, ...]
    selection: EpochSelection
    references: Mapping[str, float]
    published: PublishedGrid | None = None

    @property
    def tables(self) -> list[GridTable]:
        """The grid's tables."""
        return grid_tables(self.frame, self.keys, self.selection.column, self.published)

    @property
    def means(self) -> pd.DataFrame:
        """The mean over seeds of each finished cell: its keys, and ``acc``."""
        by_cell = finished_cells(self.frame).groupby(list(self.keys), sort=False)[self.selection.column]
        return by_cell.mean().rename("acc").reset_index().dropna(subset="acc")


def grid_figures(picture: GridPicture) -> dict[str, Callable[[GridPicture], Figure]]:
    """Return what is drawn of a grid of so many keys, by the names of the files."""
    figures: dict[str, Callable[[GridPicture], Figure]] = {"marginals": _marginals}
    if len(picture.keys) > 1 and len(picture.tables) <= MOST_FACETS:
        figures["heatmap"] = _heatmaps
    if len(picture.keys) > 2:
        figures["parallel"] = _parallel
    return figures


def draw_grid(picture: GridPicture, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Draw what fits the number of keys; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    with rc_context(STYLE):
        for name, draw in grid_figures(picture).items():
            paths += save_figure(draw(picture), folder, name, formats)
    return paths


def _heatmaps(picture: GridPicture) -> Figure:
    """Draw a heatmap per facet; with published values, those and the difference below it.

    Measured and published accuracies have colours of their own: their levels may lie far apart.
    """
    tables = picture.tables
    compared = any(table.published for table in tables)
    means = [_means(table) for table in tables]
    titles = [facet_title(table) or "measured" * compared for table in tables]
    panels = [(*one, _norm(means)) for one in zip(titles, tables, means, strict=True)]
    if compared:
        stated = [_array(table, table.published) for table in tables]
        panels += [("published", *one, _norm(stated)) for one in zip(tables, stated, strict=True)]
    differences = [
        ("measured − published", t, _means(t) - _array(t, t.published))
        for t in tables
        if t.published
    ]
    across = min(3, len(tables)) if len(tables) > 1 else 1
    down = -(-(len(panels) + len(differences)) // across)
    columns, rows = len(tables[0].columns), len(tables[0].rows)
    size = (across * (1.6 + 0.62 * columns), down * (1.25 + 0.42 * rows) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for place, (title, table, values, norm) in zip(axes, panels, strict=False):
        _heatmap(place, table, values, title, "viridis", norm)
    for place, (title, table, values) in zip(axes[len(panels) :], differences, strict=False):
        largest = float(np.nanmax(np.abs(values))) or 1.0
        _heatmap(place, table, values, title, "PuOr", Normalize(-largest, largest), "+.1f")
    for place in axes[len(panels) + len(differences) :]:
        place.set_axis_off()
    figure.suptitle(printable(f"{picture.title}: test accuracy (%), {_told(picture)}"), fontsize=10)
    return figure


def _told(picture: GridPicture) -> str:
    seeds = picture.frame["seed"].nunique()
    return f"{picture.selection.told}, " + ("one seed" if seeds == 1 else f"mean of {seeds} seeds")


def _means(table: GridTable) -> Any:
    return _array(table, {place: one.mean for place, one in table.cells.items()})


def _array(table: GridTable, values: Mapping[Any, float]) -> Any:
    rows = [[values.get((row, column), np.nan) for column in table.columns] for row in table.rows]
    return np.array(rows, dtype=float)


def _norm(arrays: Sequence[Any]) -> Normalize:
    values = np.concatenate([one.ravel() for one in arrays])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return Normalize(low, high if high > low else low + 1)


def _heatmap(
    axes: Axes, table: GridTable, values: Any, title: str, colours: str, norm: Normalize,
    digits: str = ".1f",
) -> None:  # fmt: skip
    image = axes.imshow(values, cmap=colours, norm=norm, aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(len(table.columns)), [printable(format_value(c)) for c in table.columns])
    axes.set_yticks(range(len(table.rows)), [printable(format_value(r)) for r in table.rows])
    axes.set(xlabel=short_key(table.keys[1], table.keys), ylabel=short_key(table.keys[0], table.keys))
    axes.set_title(printable(title), fontsize=9)
    if values.size <= ANNOTATED:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                red, green, blue, _ = image.cmap(norm(value))
                ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
                axes.text(column, row, format(value, digits), ha="center", va="center",
                          color=ink, fontsize=7.5)  # fmt: skip


def _marginals(picture: GridPicture) -> Figure:
    """Draw, for each key, the mean over all others; thin lines are the values of another key."""
    means, keys = picture.means, picture.keys
    figure = Figure(figsize=(max(5.2, 4.6 * len(keys)), 4.4), layout="constrained")
    panels = figure.subplots(1, len(keys), squeeze=False, sharey=True)[0]
    for axes, key in zip(panels, keys, strict=True):
        values = key_values(finished_cells(picture.frame), key)
        others = [one for one in keys if one != key]
        if len(keys) == 2 and len(key_values(means, others[0])) <= MOST_LINES:
            _thin_lines(axes, means, key, values, others[0], keys)
        overall = means.groupby(key)["acc"].mean()
        label = f"mean over {', '.join(short_key(o, keys) for o in others)}" if others else "measured"
        axes.plot(range(len(values)), [overall.get(v, np.nan) for v in values], color="black",
                  linewidth=2, marker="o", markersize=4, label=label)  # fmt: skip
        if not others:
            _error_bars(axes, picture, values)
        _references(axes, picture)
        axes.set_xticks(range(len(values)), [printable(format_value(v)) for v in values])
        axes.set_xlabel(short_key(key, keys))
        axes.legend(
            fontsize=7,
            ncols=3 if len(keys) == 2 else 1,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),
        )
    panels[0].set_ylabel("test accuracy (%)")
    figure.suptitle(printable(f"{picture.title}: {_told(picture)}"), fontsize=10)
    return figure


def _thin_lines(
    axes: Axes, means: pd.DataFrame, key: str, values: Sequence[Any], other: str, keys: Any
) -> None:
    choices, name = key_values(means, other), short_key(other, keys)
    shades = colormaps["viridis"](np.linspace(0, 0.95, len(choices)))
    for number, choice in enumerate(choices):
        one = means[means[other] == choice].set_index(key)["acc"]
        heights = [one.get(value, np.nan) for value in values]
        axes.plot(range(len(values)), heights, linewidth=0.9, alpha=0.8,
                  color=shades[number], label=printable(f"{name} = {format_value(choice)}"))  # fmt: skip


def _error_bars(axes: Axes, picture: GridPicture, values: Sequence[Any]) -> None:
    (table,) = picture.tables
    spreads = [table.cells.get((value, None)) for value in values]
    if any(one is not None and one.std is not None for one in spreads):
        means = [one.mean if one else np.nan for one in spreads]
        errors = [one.std or 0.0 if one else np.nan for one in spreads]
        axes.errorbar(range(len(values)), means, errors, color="black", capsize=3, linestyle="none")


def _references(axes: Axes, picture: GridPicture) -> None:
    """Draw the baselines and the teacher, where they are not far from the cells."""
    heights = picture.means["acc"]
    room = max(3 * float(heights.max() - heights.min()), 3.0)
    for number, (name, value) in enumerate(picture.references.items()):
        if heights.min() - room <= value <= heights.max() + room:
            axes.axhline(value, color=COLOURS[1 + number % 5], linewidth=1.2, linestyle=(0, (5, 2)),
                         label=printable(name))  # fmt: skip


def _parallel(picture: GridPicture) -> Figure:
    """Draw a line per cell through its values, coloured by its accuracy, the best on top."""
    means, keys = picture.means.sort_values("acc"), picture.keys
    figure = Figure(figsize=(1.9 * (len(keys) + 1) + 1, 4.2), layout="constrained")
    axes = figure.subplots()
    norm = _norm([means["acc"].to_numpy()])
    colours = ScalarMappable(norm, "viridis")
    places = {key: {v: n for n, v in enumerate(key_values(means, key))} for key in keys}
    for cell in means.to_dict("records"):
        heights = [_share(places[key][cell[key]], len(places[key])) for key in keys]
        heights.append(float(norm(cell["acc"])))
        axes.plot(range(len(heights)), heights, color=colours.to_rgba(cell["acc"]),
                  linewidth=1.1, alpha=0.8)  # fmt: skip
    for number, key in enumerate(keys):
        axes.axvline(number, color="#999999", linewidth=0.8)
        for value, place in places[key].items():
            axes.annotate(printable(format_value(value)), (number, _share(place, len(places[key]))),
                          xytext=(4, 0), textcoords="offset points", fontsize=7, va="center",
                          bbox=LEGIBLE)  # fmt: skip
    axes.set_xticks(range(len(keys) + 1), [*(short_key(key, keys) for key in keys), "test acc"])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    figure.colorbar(colours, ax=axes, label="test accuracy (%)")
    figure.suptitle(printable(f"{picture.title}: {_told(picture)}"), fontsize=10)
    return figure


def _share(place: int, count: int) -> float:
    return place / (count - 1) if count > 1 else 0.5
