"""The figure of the diagnostics: the gradients of KL and ranking loss by the student's logits.

And the teacher's probabilities, with which the former is said to scale, and the share of live
pairs, which decides how much of the latter is left.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from rkkd_cli.report.arms import ArmCurve
from rkkd_cli.report.bands import draw_means
from rkkd_cli.report.picture import CurvePicture
from rkkd_cli.report.style import (
    add_legend,
    arms_in_legend,
    legend_title,
    line_styles,
    number_epochs,
    set_title,
    shorten_label,
)

TERM_DASHES: dict[str, Literal["solid", "dashed", "dashdot"]] = {
    "kl": "solid", "rank": "dashed", "teacher": "dashdot",
}  # fmt: skip
TERM_NAMES = {
    "kl": "gradient of KL", "rank": "gradient of the ranking loss",
    "teacher": "teacher's probabilities",
}  # fmt: skip


class GradientPanel(NamedTuple):
    """The columns of metrics.csv in one panel, each with the term that sets its line style."""

    title: str
    label: str
    columns: dict[str, str]
    logarithmic: bool = False


PANELS = (
    GradientPanel("Gradient by the logits", "root mean square norm per row of logits",
                  {"grad_norm_kl": "kl", "grad_norm_rank": "rank"}, logarithmic=True),
    GradientPanel("Cosine between the two gradients", "cosine", {"grad_cosine": "kl"}),
    GradientPanel("Share on the lower half of the channels", "share of absolute values",
                  {"grad_low_share_kl": "kl", "grad_low_share_rank": "rank",
                   "grad_low_share_teacher": "teacher"}),
    GradientPanel("Live pairs of the ranking loss", "share of all pairs",
                  {"grad_live_pairs": "rank"}),
)  # fmt: skip


class PlainNumbers(LogFormatter):
    """Ticks of a logarithmic axis as plain numbers; typesetting powers is slow."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the number, or an empty string for a tick that the base class does not label."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def recorded_panels(curves: Sequence[ArmCurve]) -> list[GradientPanel]:
    """Return the panels with the columns of which any curve has values.

    Files of old versions lack some columns, or all; a panel without any is left out.
    """

    def is_recorded(column: str) -> bool:
        return any(column in curve.rows and curve.rows[column].notna().any() for curve in curves)

    recorded = [
        panel._replace(columns={c: term for c, term in panel.columns.items() if is_recorded(c)})
        for panel in PANELS
    ]
    return [panel for panel in recorded if panel.columns]


def gradients_figure(picture: CurvePicture) -> Figure:
    """Return the figure: one colour per arm, and a line style for each term."""
    panels = recorded_panels(picture.curves)
    figure = Figure(figsize=(4.2 * len(panels), 4.3), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, panel, picture.curves)
    add_legend(figure, _handles(picture.curves), legend_title(len(picture.curves)))
    set_title(figure, picture.title)
    return figure


def panel_figure(panel: GradientPanel, curves: Sequence[ArmCurve]) -> Figure:
    """Return the figure of one panel."""
    figure = Figure(figsize=(5.2, 3.9), layout="constrained")
    _draw(figure.subplots(), panel, curves)
    add_legend(figure, _handles(curves))
    return figure


def _handles(curves: Sequence[ArmCurve]) -> list[Line2D]:
    styles = line_styles(len(curves))
    arms = [
        Line2D([], [], color=styles[index].colour, marker=styles[index].marker, markersize=4,
               label=shorten_label(curves[index].label))
        for index in arms_in_legend(len(curves))
    ]  # fmt: skip
    drawn = {term for panel in recorded_panels(curves) for term in panel.columns.values()}
    terms = [
        Line2D([], [], color="#555555", linestyle=dash, label=TERM_NAMES[term])
        for term, dash in TERM_DASHES.items()
        if term in drawn
    ]
    return [*arms, *terms]


def _draw(axes: Axes, panel: GradientPanel, curves: Sequence[ArmCurve]) -> None:
    for column, term in panel.columns.items():
        draw_means(axes, curves, column, TERM_DASHES[term])
    if panel.logarithmic:
        axes.set_yscale("log", nonpositive="clip")
        axes.yaxis.set_major_formatter(PlainNumbers())
        axes.yaxis.set_minor_formatter(PlainNumbers())
    axes.set(title=panel.title, ylabel=panel.label)
    number_epochs(axes, max(curve.last for curve in curves))
