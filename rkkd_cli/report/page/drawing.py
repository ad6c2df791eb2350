"""The interactive curves of a page, made with Bokeh and drawn by BokehJS."""

from typing import Any

from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import BasicTicker, ColumnDataSource, DataRange1d, HoverTool, LinearAxis, glyphs
from bokeh.plotting import figure

from rkkd_cli.report.page.panels import CurveLine, CurvePanel
from rkkd_cli.report.style import DROP_COLOUR

TOOLS = "box_zoom,reset,save"
FONT_SIZE = "13px"
MAX_LINES_IN_TOOLTIP = 8  # more lines have a tooltip each, not one for all of them
TOOLTIP_STYLE = (
    "color:#1b1f24;font:13px/1.4 system-ui,sans-serif;max-width:22rem;white-space:normal"
)
BokehItem = dict[str, Any]


def panel_item(panel: CurvePanel) -> BokehItem:
    """Return a panel as a Bokeh item without data; the page's script fills in the lines.

    The data source of line n is named ``line-n``, its band ``band-n``.
    """
    x_range = DataRange1d(range_padding=0.5, range_padding_units="absolute", default_span=1)
    y_range, published_range = (DataRange1d(only_visible=True) for _ in range(2))
    plot = figure(
        sizing_mode="stretch_width", height=260 if panel.remark else 320, tools=TOOLS,
        active_drag=None, x_axis_label="epoch", y_axis_label=panel.label, x_range=x_range,
        y_range=y_range, y_axis_type="log" if panel.logarithmic else "linear",
    )  # fmt: skip
    if panel.own_axis:
        plot.extra_y_ranges = {"published": published_range}
        plot.add_layout(LinearAxis(y_range_name="published", axis_label=panel.own_axis), "right")
    set_plain_style(plot)
    plot.xaxis.ticker = BasicTicker(mantissas=[1, 2, 5], min_interval=1)  # whole epochs
    if panel.drops:
        plot.vspan(x=list(panel.drops), line_color=DROP_COLOUR, name="drops")
    zero = [_draw_zero(plot, panel)] if panel.remark else []
    drawn = [_draw_line(plot, index, line) for index, line in enumerate(panel.lines)]
    renderers = [line for line, _ in drawn]
    x_range.renderers = renderers
    on_axis = [line.own_axis for line in panel.lines]
    y_range.renderers = [*zero, *_flat(drawn, on_axis, own_axis=False)]
    published_range.renderers = _flat(drawn, on_axis, own_axis=True)
    if len(renderers) <= MAX_LINES_IN_TOOLTIP:
        plot.add_tools(_common_tooltip(plot, panel))
    else:
        text = f'<div style="{TOOLTIP_STYLE}"><b>$name</b><br>epoch @x: @y{{0.0000}} @spread</div>'
        plot.add_tools(HoverTool(renderers=renderers, tooltips=text))
    return embeddable(plot, panel.key)


def _flat(drawn: list[tuple[Any, list[Any]]], on_own: list[bool], own_axis: bool) -> list[Any]:
    """Return the lines and bands that stand on the left axis, or on the published ``own_axis``."""
    chosen = [parts for parts, own in zip(drawn, on_own, strict=True) if own == own_axis]
    return [renderer for line, bands in chosen for renderer in (line, *bands)]


def _draw_zero(plot: Any, panel: CurvePanel) -> Any:
    """Draw the line of no difference."""
    epochs = [epoch for line in panel.lines for epoch in line.epochs]
    source = ColumnDataSource({"x": [min(epochs), max(epochs)], "y": [0, 0]})
    return plot.add_glyph(source, glyphs.Line(x="x", y="y", line_width=1), name="zero")


def _draw_line(plot: Any, index: int, line: CurveLine) -> tuple[Any, list[Any]]:
    """Draw a line; return it, and its band and dot."""
    empty: dict[str, Any] = {"x": [], "y": [], "low": [], "high": [], "spread": []}
    source = ColumnDataSource(empty, name=f"line-{index}")
    # Glyphs are added directly: plot.line() adds four more of each, for selections, unused here.
    bands = []
    if not line.stated:
        band = glyphs.VArea(x="x", y1="low", y2="high", fill_color=line.colour, fill_alpha=0.18)
        bands.append(plot.add_glyph(source, band, name=f"band-{index}"))
    if len(line.epochs) == 1:
        dot = glyphs.Scatter(x="x", y="y", size=8, line_color=line.colour, fill_color=line.colour)
        bar = glyphs.Segment(x0="x", y0="low", x1="x", y1="high", line_color=line.colour)
        bands += [plot.add_glyph(source, mark, name=f"band-{index}") for mark in (dot, bar)]
    stroke = glyphs.Line(
        x="x", y="y", line_color=line.colour, line_dash=line.dash,
        line_width=1.5 if line.stated else 2,
    )  # fmt: skip
    axis = {"y_range_name": "published"} if line.own_axis else {}
    return plot.add_glyph(source, stroke, name=line.label, tags=[index], **axis), bands


def _common_tooltip(plot: Any, panel: CurvePanel) -> HoverTool:
    """Return a tooltip with the values of all lines at an epoch, attached to an invisible line.

    The data source of this line, ``probe``, has a column ``text-n`` for line n, which the page's
    script fills.
    """
    texts = "".join(
        f'<div><span style="color:{line.colour}">■</span> @{{text-{index}}}</div>'
        for index, line in enumerate(panel.lines)
    )
    source = ColumnDataSource({"x": [], "y": []}, name="probe")
    probe = plot.line("x", "y", source=source, line_alpha=0)
    tooltip = f'<div style="{TOOLTIP_STYLE}"><b>epoch @x</b>{texts}</div>'
    return HoverTool(renderers=[probe], tooltips=tooltip, mode="vline", line_policy="nearest")


def set_plain_style(plot: Any) -> None:
    """Make the figure transparent, without Bokeh's logo, with plain axis labels."""
    plot.background_fill_color = plot.border_fill_color = plot.outline_line_color = None
    plot.toolbar.logo = None
    plot.toolbar_location = "above"
    for axis in (*plot.xaxis, *plot.yaxis):
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = axis.major_label_text_font_size = FONT_SIZE
        axis.minor_tick_line_color = None


def embeddable(plot: Any, key: str) -> BokehItem:
    """Return a figure as an item that the page's script embeds in the element ``live-KEY``."""
    return dict(json_item(plot, ID(f"live-{key}")))
