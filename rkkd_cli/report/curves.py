"""The ablation curves: quantities against the epoch, by arm, mean and spread over seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D

from rkkd_cli.analysis.published_curves import PublishedCurves
from rkkd_cli.errors import printable
from rkkd_cli.report.arms import ArmCurve, arm_curves
from rkkd_cli.report.bands import draw_means
from rkkd_cli.report.gradients import gradients_figure, recorded_panels
from rkkd_cli.report.published_lines import DOTS, published_lines, source_line
from rkkd_cli.report.style import (
    MAX_NAMES_OVER_CURVES,
    STYLE,
    add_legend,
    arms_in_legend,
    legend_title,
    line_styles,
    number_epochs,
    save_figure,
    shorten_label,
)


class Quantity(NamedTuple):
    """A column of metrics.csv, with the axis label and the title of its figure."""

    column: str
    label: str
    title: str


QUANTITIES = (
    Quantity("rank", "ranking loss (−1: same order)", "Ranking loss, training"),
    Quantity("kl", "KL divergence × T² (nats)", "KL divergence, training"),
    Quantity("test_acc", "test accuracy (%)", "Test accuracy"),
)


def draw_figures(
    runs: Sequence[tuple[str, pd.DataFrame]],
    folder: Path,
    formats: Sequence[str],
    published: PublishedCurves | None = None,
) -> list[Path]:
    """Save the figures of (run name, metrics) in the folder; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    with rc_context(STYLE):
        for name, figure in run_figures(runs, published).items():
            paths += save_figure(figure, folder, name, formats)
    return paths


def run_figures(
    runs: Sequence[tuple[str, pd.DataFrame]], published: PublishedCurves | None = None
) -> dict[str, Figure]:
    """Return a figure per quantity, the sheet of all three and the gradients, by file name.

    ``published`` curves are drawn over them, dotted.
    """
    curves, names = arm_curves(runs), [name for name, _ in runs]
    figures = {q.column: quantity_figure(q, curves, published) for q in QUANTITIES}
    figures["sheet"] = sheet_figure(curves, names, published)
    if recorded_panels(curves):
        figures["gradients"] = gradients_figure(curves, names)
    return figures


def quantity_figure(
    quantity: Quantity, curves: Sequence[ArmCurve], published: PublishedCurves | None = None
) -> Figure:
    """Return the figure of one quantity."""
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    published_handles = _draw(axes, quantity, curves, published)
    handles = [*_arm_handles(curves), *published_handles]
    if len(handles) > MAX_NAMES_OVER_CURVES:
        add_legend(figure, handles, legend_title(len(curves)))
    else:
        axes.legend(handles=handles)
    if published is not None and published_handles:
        figure.supxlabel(source_line(published), fontsize=7, color="#555555")
    return figure


def sheet_figure(
    curves: Sequence[ArmCurve], names: Sequence[str], published: PublishedCurves | None = None
) -> Figure:
    """Return the figure of all quantities side by side, with one legend below them."""
    figure = Figure(figsize=(12.5, 4.1), layout="constrained")
    panels = figure.subplots(1, len(QUANTITIES))
    handles: dict[str, Any] = {}
    for axes, quantity in zip(panels, QUANTITIES, strict=True):
        for handle in (*_arm_handles(curves), *_draw(axes, quantity, curves, published)):
            handles.setdefault(str(handle.get_label()), handle)
    legend = add_legend(figure, list(handles.values()), legend_title(len(curves)))
    if published is not None and len(handles) > len(arms_in_legend(len(curves))):
        legend.set_title(source_line(published), prop=FontProperties(size=7))
    figure.suptitle(printable(" and ".join(names)), fontsize=10)
    return figure


def _arm_handles(curves: Sequence[ArmCurve]) -> list[Line2D]:
    """Return the legend handles of the arms that the legend names."""
    styled = list(zip(line_styles(len(curves)), curves, strict=True))
    return [
        Line2D([], [], color=style.colour, linewidth=style.width, linestyle=style.dash,
               marker="o" if len(curve.means) == 1 else None, label=shorten_label(curve.label))
        for style, curve in (styled[index] for index in arms_in_legend(len(curves)))
    ]  # fmt: skip


def _draw(
    axes: Axes, quantity: Quantity, curves: Sequence[ArmCurve], published: PublishedCurves | None
) -> list[Line2D]:
    """Draw the arms, then the published lines, which are returned.

    These have an axis of their own if their level is not comparable.
    """
    for epoch in sorted(set().union(*(curve.drops for curve in curves))):
        axes.axvline(epoch, color="#999999", linewidth=0.8, linestyle=":", zorder=0.5)
    draw_means(axes, curves, quantity.column, 0.18)
    for style, curve in zip(line_styles(len(curves)), curves, strict=True):
        if curve.ends:
            last = curve.means[quantity.column].loc[curve.ends]
            axes.plot(curve.ends, last, "x", color=style.colour, markersize=5)
    axes.set(title=quantity.title, ylabel=quantity.label)
    number_epochs(axes)
    lines = published_lines(quantity.column, curves, published)
    if lines and lines[0].caveat:
        axes = axes.twinx()
        axes.set_ylabel(f"published, {lines[0].caveat}", fontsize=8, color="#555555")
        axes.spines["right"].set_visible(True)
        axes.grid(visible=False)
    drawn: list[Line2D] = []
    for line in lines:
        drawn += axes.plot(
            line.values.index, line.values, color=line.colour, linestyle=DOTS, linewidth=1.3,
            label=shorten_label(line.label),
        )  # fmt: skip
    return drawn
