"""The heatmaps of a grid: measured, published and their difference, with a number in each cell."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bokeh.models import (
    ColumnDataSource,
    FactorRange,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    PrintfTickFormatter,
)
from bokeh.models.annotations import ColorBar
from bokeh.plotting import figure
from matplotlib import colormaps
from matplotlib.colors import to_hex

from rkkd_cli.analysis.grid_tables import CellKey, GridTable, format_value, short_key
from rkkd_cli.errors import printable
from rkkd_cli.report.grid_picture import (
    DIVERGING,
    MAX_FACETS,
    GridPicture,
    colour_scale,
    value_labels,
)
from rkkd_cli.report.grid_text import facet_title, published_epoch
from rkkd_cli.report.page.drawing import TOOLTIP_STYLE, BokehItem, embeddable, set_plain_style
from rkkd_cli.report.words import capitalised


class Heatmap(NamedTuple):
    """One heatmap: its key, its title, and its figure for Bokeh."""

    key: str
    title: str
    item: BokehItem


class HeatmapValues(NamedTuple):
    """The values of a heatmap: accuracies, or differences of accuracies."""

    title: str
    table: GridTable
    values: Mapping[CellKey, float]
    is_difference: bool = False


def heatmaps_of(picture: GridPicture, prefix: str) -> list[Heatmap]:
    """Return the heatmaps of a grid of at least two keys, unless it has too many facets."""
    tables = picture.tables
    if len(picture.keys) < 2 or len(tables) > MAX_FACETS:
        return []
    label = picture.metric.label
    maps = {f"{prefix}-{n}": heatmap for n, heatmap in enumerate(_heatmap_values(tables, label))}
    return [
        Heatmap(key, printable(m.title), embeddable(_draw(m, label), key))
        for key, m in maps.items()
    ]


def _heatmap_values(tables: list[GridTable], label: str) -> Iterator[HeatmapValues]:
    for table in tables:
        facet = facet_title(table)
        suffix = f", {facet}" if facet else ""
        means = {cell: accuracy.mean for cell, accuracy in table.cells.items()}
        yield HeatmapValues(f"{capitalised(label)}{suffix}", table, means)
        if table.published:
            suffix += f", {published_epoch(table)}"
            yield HeatmapValues(f"Published (%){suffix}", table, table.published_accuracies)
            title = f"Measured − published (points){suffix}"
            yield HeatmapValues(title, table, table.differences, is_difference=True)


def _draw(heatmap: HeatmapValues, label: str) -> Any:
    table = heatmap.table
    rows, columns = value_labels(table.rows), value_labels(table.columns)
    row_key, column_key = (printable(short_key(key, table.keys)) for key in table.keys[:2])
    plot = figure(
        x_range=FactorRange(factors=columns), y_range=FactorRange(factors=rows[::-1]),
        sizing_mode="stretch_width", tools="save",
        height=110 + 34 * len(rows) + 45 * heatmap.is_difference,
        x_axis_label=column_key, y_axis_label=row_key,
    )  # fmt: skip
    set_plain_style(plot)
    plot.grid.grid_line_color = None
    plot.tags = ["plain"]  # so that the page's script gives it no grid lines
    source = ColumnDataSource(_columns(heatmap, row_key, column_key))
    cells = plot.rect("x", "y", 1, 1, source=source, fill_color="fill", line_color=None)
    plot.text("x", "y", "text", source=source, text_color="ink", text_align="center",
              text_baseline="middle", text_font_size="12px")  # fmt: skip
    tooltip = (
        f'<div style="{TOOLTIP_STYLE}">@row_name = @y, @column_name = @x<br>'
        f"{label}: @accuracy</div>"
    )
    plot.add_tools(HoverTool(renderers=[cells], tooltips=tooltip))
    if heatmap.is_difference:  # a diverging scale shows its centre
        plot.add_layout(_scale_bar(heatmap), "below")
    return plot


def _scale_bar(heatmap: HeatmapValues) -> ColorBar:
    end = colour_scale([[*heatmap.values.values()]], centred=True).vmax or 1.0
    palette = [to_hex(colormaps[DIVERGING](n / 255)) for n in range(256)]
    return ColorBar(
        color_mapper=LinearColorMapper(palette=palette, low=-end, high=end),
        ticker=FixedTicker(ticks=[-end, 0, end]), background_fill_color=None, height=12,
        orientation="horizontal", formatter=PrintfTickFormatter(format="%+.1f"),
    )  # fmt: skip


def _columns(heatmap: HeatmapValues, row_key: str, column_key: str) -> dict[str, Any]:
    """Return the columns of the data source, with one entry per cell."""
    table, values = heatmap.table, heatmap.values
    scale = colour_scale([[*values.values()]], centred=heatmap.is_difference)
    colours = colormaps[DIVERGING if heatmap.is_difference else "viridis"]
    number_format = "+.1f" if heatmap.is_difference else ".1f"
    cells = []
    for (row, column), value in values.items():
        red, green, blue, _ = colours(scale(value))
        is_dark = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 < 0.18
        measured = table.cells.get((row, column))
        accuracy = measured.text(2) if measured else ""
        if (row, column) in table.published:
            stated = table.published[row, column].published
            epoch = f", {stated.select} epoch" if stated.select else ""
            accuracy += f" (published {stated.acc:.2f}{epoch})"
        cells.append((
            printable(format_value(column)), printable(format_value(row)), row_key, column_key,
            format(value, number_format), accuracy, to_hex((red, green, blue)),
            "#ffffff" if is_dark else "#000000",
        ))  # fmt: skip
    names = ("x", "y", "row_name", "column_name", "text", "accuracy", "fill", "ink")
    return {name: [cell[index] for cell in cells] for index, name in enumerate(names)}
