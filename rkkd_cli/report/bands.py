"""A metric against the epoch: the mean over seeds, in a band of ± one sample standard deviation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from rkkd_cli.report.arms import ArmCurve
from rkkd_cli.report.style import MAX_DISTINCT_ARMS, LineStyle, line_styles, shorten_label


def draw_means(
    axes: Axes, curves: Sequence[ArmCurve], column: str, opacity: float, dash: Any = None
) -> None:
    """Draw a column of all curves that have it; ``dash`` replaces that of each arm's style.

    A single epoch is a point; a single seed has no band. Many lines have no bands and are drawn as
    one collection, in half the time.
    """
    drawn = [
        (style, curve)
        for style, curve in zip(line_styles(len(curves)), curves, strict=True)
        if column in curve.rows
    ]
    if len(curves) > MAX_DISTINCT_ARMS and all(len(curve.means) > 1 for _, curve in drawn):
        lines = LineCollection(
            [np.column_stack((curve.means.index, curve.means[column])) for _, curve in drawn],
            colors=[style.colour for style, _ in drawn],
            linewidths=[style.width for style, _ in drawn], linestyles=dash or "-",
        )  # fmt: skip
        axes.add_collection(lines)
        axes.autoscale_view()
        return
    for style, curve in drawn:
        _draw_mean(axes, curve, column, style, opacity, dash or style.dash)


def _draw_mean(
    axes: Axes, curve: ArmCurve, column: str, style: LineStyle, opacity: float, dash: Any
) -> None:
    means, std = curve.means[column], curve.stds[column]
    axes.plot(
        means.index, means, color=style.colour, linewidth=style.width, linestyle=dash,
        marker="o" if len(means) == 1 else None, label=shorten_label(curve.label),
    )  # fmt: skip
    if style.has_band and std.notna().any():
        axes.fill_between(means.index, means - std, means + std, color=style.colour,
                          alpha=opacity, linewidth=0)  # fmt: skip
