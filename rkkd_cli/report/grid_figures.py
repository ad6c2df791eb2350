"""Figures of a grid: heatmaps, a marginal curve per varied key, parallel coordinates."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from rkkd_cli.analysis.grid_tables import finished_cells, format_value, key_values, short_key
from rkkd_cli.errors import printable
from rkkd_cli.report.grid_heatmaps import heatmaps_figure
from rkkd_cli.report.grid_picture import (
    MAX_FACETS,
    GridPicture,
    colour_scale,
    label_columns,
    label_inches,
    value_labels,
)
from rkkd_cli.report.style import COLOURS, set_title, shorten_label
from rkkd_cli.report.words import short_name

MAX_LINES = 12
LABEL_BOX = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}


def grid_figures(picture: GridPicture) -> dict[str, Callable[[], Figure]]:
    """Return what draws each figure of such a grid, by file name."""
    figures: dict[str, Callable[[], Figure]] = {"marginals": partial(_draw_marginals, picture)}
    if len(picture.keys) > 1 and len(picture.tables) <= MAX_FACETS:
        figures["heatmap"] = partial(heatmaps_figure, picture)
    if len(picture.keys) > 2:
        figures["parallel"] = partial(_draw_parallel, picture)
    return figures


def _draw_marginals(picture: GridPicture) -> Figure:
    """Draw, for each key, the mean over all others.

    A grid of two keys has thin lines too, one per value of the other key.
    """
    means, keys = picture.means, picture.keys
    by_key = {key: key_values(finished_cells(picture.frame), key) for key in keys}
    aslant = max(label_inches(value_labels(values)) for values in by_key.values())
    figure = Figure(figsize=(max(5.2, 4.6 * len(keys)), 4.4 + aslant), layout="constrained")
    panels = figure.subplots(1, len(keys), squeeze=False, sharey=True)[0]
    for axes, key in zip(panels, keys, strict=True):
        values = by_key[key]
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
        label_columns(axes, values)
        axes.set_xlabel(short_key(key, keys))
        longest = max(len(label) for label in axes.get_legend_handles_labels()[1])
        columns = min(3 if len(keys) == 2 else 1, max(1, int(4.4 / (0.5 + 0.055 * longest))))
        below = ScaledTranslation(0, -0.5 - aslant, figure.dpi_scale_trans)  # in inches
        axes.legend(fontsize=7, ncols=columns, loc="upper center", bbox_to_anchor=(0.5, 0),
                    bbox_transform=axes.transAxes + below)  # fmt: skip
    panels[0].set_ylabel(picture.metric.label)
    set_title(figure, printable(f"{picture.title}: {picture.subtitle}"))
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
        label = shorten_label(printable(f"{name} = {format_value(other_value)}"))
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
            axes.axhline(value, color=COLOURS[1 + index % 5], linewidth=1.2,
                         label=shorten_label(printable(name)))  # fmt: skip


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
    names = [*(short_key(key, keys) for key in keys), short_name(picture.metric.column)]
    axes.set_xticks(range(len(keys) + 1), names)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    figure.colorbar(colours, ax=axes, label=picture.metric.label)
    set_title(figure, printable(f"{picture.title}: {picture.subtitle}"))
    return figure


def _evenly_spaced(values: Sequence[Any]) -> dict[Any, float]:
    """Return a height from 0 to 1 for each value, in their order."""
    if len(values) == 1:
        return {values[0]: 0.5}
    return {value: index / (len(values) - 1) for index, value in enumerate(values)}
