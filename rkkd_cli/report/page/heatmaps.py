"""The heatmaps of a grid: measured, published and their difference, with a value at each place."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from bokeh.models import ColumnDataSource, FactorRange, HoverTool
from bokeh.plotting import figure
from matplotlib import colormaps
from matplotlib.colors import to_hex

from rkkd_cli.analysis.grid_tables import GridTable, CellKey, short_key, format_value
from rkkd_cli.errors import printable
from rkkd_cli.report.grid_figures import MOST_FACETS, GridPicture
from rkkd_cli.report.grid_text import facet_title
from rkkd_cli.report.page.drawing import TIP, BokehItem, item, plain


class Heatmap(NamedTuple):
    """One heatmap: its key, its title and what Bokeh draws."""

    key: str
    title: str
    item: BokehItem


def heatmaps_of(picture: GridPicture, prefix: str) -> list[Heatmap]:
    """Return the heatmaps of a grid of at least two keys, if they are not too many."""
    tables = picture.tables
    if len(picture.keys) < 2 or len(tables) > MOST_FACETS:
        return []
    maps = []
    for number, (title, table, values, colours, digits) in enumerate(_parts(tables)):
        key = f"{prefix}-{number}"
        maps.append(
            Heatmap(key, printable(title), item(_draw(table, values, colours, digits), key))
        )
    return maps


def _parts(
    tables: list[GridTable],
) -> Iterator[tuple[str, GridTable, Mapping[CellKey, float], str, str]]:
    for table in tables:
        facet = facet_title(table)
        after = f", {facet}" if facet else ""
        means = {place: one.mean for place, one in table.cells.items()}
        yield f"Test accuracy (%){after}", table, means, "viridis", ".1f"
        if table.published:
            yield f"Published (%){after}", table, table.published, "viridis", ".1f"
            both = table.published.keys() & means.keys()
            difference = {place: means[place] - table.published[place] for place in both}
            yield f"Measured − published{after}", table, difference, "PuOr", "+.1f"


def _draw(table: GridTable, values: Mapping[CellKey, float], colours: str, digits: str) -> Any:
    rows, columns = (
        [printable(format_value(one)) for one in side] for side in (table.rows, table.columns)
    )
    plot = figure(
        x_range=FactorRange(factors=columns), y_range=FactorRange(factors=rows[::-1]),
        sizing_mode="stretch_width", height=110 + 34 * len(rows), tools="save",
        x_axis_label=printable(short_key(table.keys[1], table.keys)),
        y_axis_label=printable(short_key(table.keys[0], table.keys)),
    )  # fmt: skip
    plain(plot)
    plot.grid.grid_line_color = None
    plot.tags = ["plain"]  # the page's script gives it no grid lines
    source = ColumnDataSource(_cells(table, values, colours, digits))
    places = plot.rect("x", "y", 1, 1, source=source, fill_color="fill", line_color=None)
    plot.text(
        "x", "y", "text", source=source, text_color="ink", text_align="center",
        text_baseline="middle", text_font_size="12px",
    )  # fmt: skip
    tip = f'<div style="{TIP}">@row_name = @y, @column_name = @x<br>test accuracy (%): @told</div>'
    plot.add_tools(HoverTool(renderers=[places], tooltips=tip))
    return plot


def _cells(
    table: GridTable, values: Mapping[CellKey, float], colours: str, digits: str
) -> dict[str, Any]:
    numbers = np.array(list(values.values()) or [0.0])
    low, high = float(numbers.min()), float(numbers.max())
    if digits.startswith("+"):
        high = float(np.abs(numbers).max())
        low = -high
    width = high - low or 1.0
    kinds = ("x", "y", "row_name", "column_name", "text", "told", "fill", "ink")
    cells: dict[str, list[str]] = {key: [] for key in kinds}
    names = [printable(short_key(key, table.keys)) for key in table.keys[:2]]
    for place, value in values.items():
        red, green, blue, _ = colormaps[colours]((value - low) / width)
        measured = table.cells.get(place)
        told = measured.text(2) if measured else ""
        if place in table.published:
            told += f" (published {table.published[place]:.2f})"
        cells["x"].append(printable(format_value(place[1])))
        cells["y"].append(printable(format_value(place[0])))
        cells["row_name"].append(names[0])
        cells["column_name"].append(names[1])
        cells["text"].append(format(value, digits))
        cells["told"].append(told)
        cells["fill"].append(to_hex((red, green, blue)))
        dark = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 < 0.18
        cells["ink"].append("#ffffff" if dark else "#000000")
    return dict(cells)
