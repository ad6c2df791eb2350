"""The interactive figures of a page, made with Bokeh: drawn by its own JavaScript in the page."""

from typing import Any

from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import (
    ColumnDataSource,
    DataRange1d,
    HoverTool,
    LinearAxis,
    glyphs,
)
from bokeh.plotting import figure
from bokeh.resources import Resources

from rkkd_cli.report.page.panels import CurveLine, CurvePanel

TOOLS = "box_zoom,reset,save"
FONT = "13px"
FEW = 8  # so many lines fit into one tooltip for all of them
TIP = "color:#1b1f24;font:13px/1.4 system-ui,sans-serif;max-width:22rem;white-space:normal"
BokehItem = dict[str, Any]


def bokeh_script() -> str:
    """Return BokehJS as it stands in the page."""
    return str(Resources(mode="inline", components=["bokeh"]).js_raw[0])


def panel_item(panel: CurvePanel) -> BokehItem:
    """Return a panel as Bokeh embeds it. The page's script fills the lines in.

    The source of line n is named ``line-n``, the band ``band-n``.
    """
    x_range, y_range, their_range = (DataRange1d(only_visible=True) for _ in range(3))
    plot = figure(
        sizing_mode="stretch_width", height=320, tools=TOOLS, active_drag=None,
        x_axis_label="epoch", y_axis_label=panel.label, x_range=x_range, y_range=y_range,
        y_axis_type="log" if panel.logarithmic else "linear",
    )  # fmt: skip
    if panel.own_axis:
        plot.extra_y_ranges = {"published": their_range}
        plot.add_layout(LinearAxis(y_range_name="published", axis_label=panel.own_axis), "right")
    plain(plot)
    if panel.drops:
        plot.vspan(x=list(panel.drops), line_dash=[2, 3], line_color="#999999")
    drawn = [_draw(plot, number, line) for number, line in enumerate(panel.lines)]
    both = list(zip(drawn, panel.lines, strict=True))
    x_range.renderers = drawn
    y_range.renderers = [one for one, line in both if not line.own_axis]
    their_range.renderers = [one for one, line in both if line.own_axis]
    plot.add_tools(_hover_of_all(plot, panel) if len(drawn) <= FEW else _hover_of_one(drawn))
    return item(plot, panel.key)


def _draw(plot: Any, number: int, line: CurveLine) -> Any:
    empty: dict[str, Any] = {"x": [], "y": [], "low": [], "high": [], "spread": []}
    source = ColumnDataSource(empty, name=f"line-{number}")
    # Glyphs by themselves: plot.line() makes four more of each, for selections that nobody makes.
    if not line.published:
        band = glyphs.VArea(
            x="x", y1="low", y2="high", fill_color=line.colour, fill_alpha=0.15
        )  # fmt: skip
        plot.add_glyph(source, band, name=f"band-{number}")
    if len(line.epochs) == 1:
        dot = glyphs.Scatter(x="x", y="y", size=8, line_color=line.colour, fill_color=line.colour)
        plot.add_glyph(source, dot, name=f"band-{number}")
    stroke = glyphs.Line(
        x="x", y="y", line_color=line.colour, line_dash=line.dash,
        line_width=1.5 if line.published else 2,
    )  # fmt: skip
    axis = {"y_range_name": "published"} if line.own_axis else {}
    return plot.add_glyph(source, stroke, name=line.label, tags=[number], **axis)


def _hover_of_all(plot: Any, panel: CurvePanel) -> HoverTool:
    """Return a tooltip with the values of all lines at an epoch: those of an unseen line.

    Its source, ``probe``, has a column ``told-n`` for line n, which the page's script fills.
    """
    empty: dict[str, list[float]] = {"x": [], "y": []}
    told = "".join(
        f'<div><span style="color:{line.colour}">■</span> @{{told-{number}}}</div>'
        for number, line in enumerate(panel.lines)
    )
    source = ColumnDataSource(data=dict(empty), name="probe")
    probe = plot.line("x", "y", source=source, line_alpha=0)
    tip = f'<div style="{TIP}"><b>epoch @x</b>{told}</div>'
    return HoverTool(renderers=[probe], tooltips=tip, mode="vline", line_policy="nearest")


def _hover_of_one(drawn: list[Any]) -> HoverTool:
    tip = f'<div style="{TIP}"><b>$name</b><br>epoch @x: @y{{0.0000}} @spread</div>'
    return HoverTool(renderers=drawn, tooltips=tip)


def plain(plot: Any) -> None:
    """Let the page's own background show, without the library's logo."""
    plot.background_fill_color = plot.border_fill_color = plot.outline_line_color = None
    plot.toolbar.logo = None
    plot.toolbar_location = "above"
    for axis in (*plot.xaxis, *plot.yaxis):
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = axis.major_label_text_font_size = FONT
        axis.minor_tick_line_color = None


def item(plot: Any, key: str) -> BokehItem:
    """Return a figure as the page's script embeds it, in the element ``live-KEY``."""
    return dict(json_item(plot, ID(f"live-{key}")))
