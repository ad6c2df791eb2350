"""The heatmaps of a grid: measured, published, and their difference, a number in each cell."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from rkkd_cli.analysis.grid_tables import CellKey, GridTable, short_key
from rkkd_cli.errors import printable
from rkkd_cli.report.grid_picture import (
    DIVERGING,
    GridPicture,
    colour_scale,
    label_columns,
    label_inches,
    value_labels,
)
from rkkd_cli.report.grid_text import facet_title, published_epoch
from rkkd_cli.report.style import set_title

MIN_WIDTH = 5.0  # inches, which leave room for the title of a small heatmap
MAX_NUMBERED_CELLS = 400  # cells of a heatmap that still have room for their numbers


class HeatmapPanel(NamedTuple):
    """One heatmap: its title, its table, its values, and the scale of its colours."""

    title: str
    table: GridTable
    values: Any
    scale: Normalize
    is_difference: bool = False


def heatmaps_figure(picture: GridPicture) -> Figure:
    """Return the figure: a heatmap per facet, then those of the published values and differences.

    Measured and published accuracies have colour scales of their own: their levels may differ much.
    """
    tables = picture.tables
    panels = _panels(tables)
    across = min(3, len(tables)) if len(tables) > 1 else 1
    down = -(-len(panels) // across)
    columns, rows = (value_labels(values) for values in (tables[0].columns, tables[0].rows))
    width = across * (1.6 + 0.06 * max(map(len, rows)) + 0.62 * len(columns))
    height = down * (1.25 + label_inches(columns) + 0.42 * len(rows)) + 0.3
    figure = Figure(figsize=(max(MIN_WIDTH, width), height), layout="constrained")
    all_axes = [*figure.subplots(down, across, squeeze=False).flat]
    for axes, panel in zip(all_axes, panels, strict=False):
        _draw(axes, panel)
    for unused in all_axes[len(panels) :]:
        unused.set_axis_off()
    title = f"{picture.title}: {picture.metric.label}, {picture.subtitle}"
    epochs = dict.fromkeys(published_epoch(table) for table in tables if table.published)
    if epochs:
        title += f"; published, and the difference from it: {' or '.join(epochs)}"
    set_title(figure, printable(title))
    return figure


def _panels(tables: list[GridTable]) -> list[HeatmapPanel]:
    compared = any(table.published for table in tables)
    measured = [_array(t, {cell: one.mean for cell, one in t.cells.items()}) for t in tables]
    stated = [_array(table, table.published_accuracies) for table in tables]
    facets = [facet_title(table) for table in tables]
    panels = [
        HeatmapPanel(facet or "measured" * compared, table, values, colour_scale(measured))
        for facet, table, values in zip(facets, tables, measured, strict=True)
    ]
    if not compared:
        return panels
    panels += [
        HeatmapPanel(_with_facet("published", facet), table, values, colour_scale(stated))
        for facet, table, values in zip(facets, tables, stated, strict=True)
    ]
    for facet, table in zip(facets, tables, strict=True):
        if table.published:
            title = _with_facet("measured − published", facet)
            values = _array(table, table.differences)
            scale = colour_scale([values], centred=True)
            panels.append(HeatmapPanel(title, table, values, scale, is_difference=True))
    return panels


def _array(table: GridTable, values: Mapping[CellKey, float]) -> Any:
    rows = [[values.get((row, column), np.nan) for column in table.columns] for row in table.rows]
    return np.array(rows, dtype=float)


def _with_facet(title: str, facet: str) -> str:
    return f"{title}, {facet}" if facet else title


def _draw(axes: Axes, panel: HeatmapPanel) -> None:
    table, values, norm = panel.table, panel.values, panel.scale
    colours, digits = (DIVERGING, "+.1f") if panel.is_difference else ("viridis", ".1f")
    image = axes.imshow(values, cmap=colours, norm=norm, aspect="auto")
    axes.grid(visible=False)
    label_columns(axes, table.columns)
    axes.set_yticks(range(len(table.rows)), value_labels(table.rows))
    row_key, column_key = (short_key(key, table.keys) for key in table.keys[:2])
    axes.set(xlabel=column_key, ylabel=row_key)
    axes.set_title(printable(panel.title), fontsize=9)
    is_numbered = values.size <= MAX_NUMBERED_CELLS
    if panel.is_difference or not is_numbered:  # a diverging scale shows its centre
        ticks = [norm.vmin, 0, norm.vmax] if panel.is_difference else None
        axes.figure.colorbar(image, ax=axes, ticks=ticks, format=f"%{digits}")
    if is_numbered:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                red, green, blue, _ = image.cmap(norm(value))
                ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
                axes.text(column, row, format(value, digits), ha="center", va="center",
                          color=ink, fontsize=7.5)  # fmt: skip
