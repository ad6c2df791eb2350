"""A metric against the epoch: a mean over seeds in its band, of the arms or of differences."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from rkkd_cli.report.arms import ArmCurve
from rkkd_cli.report.picture import CurvePicture
from rkkd_cli.report.style import MAX_DISTINCT_ARMS, LineStyle, line_styles, shorten_label

MARKERS_ON_A_LINE = 6
BAND_OPACITY = 0.18


def draw_means(axes: Axes, curves: Sequence[ArmCurve], column: str, dash: Any = "-") -> None:
    """Draw a column of all curves that have it, in bands of ± one sample standard deviation.

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
            linewidths=[style.width for style, _ in drawn], linestyles=dash,
        )  # fmt: skip
        axes.add_collection(lines)
        axes.autoscale_view()
        return
    for style, curve in drawn:
        means, std = curve.means[column], curve.stds[column]
        label = shorten_label(curve.label)
        _draw_band(axes, means, means - std, means + std, style, label=label, linestyle=dash)


def draw_differences(axes: Axes, picture: CurvePicture, column: str) -> None:
    """Draw the paired differences about zero, each in its 95 % interval and its second arm's style.

    An epoch of one seed has no interval.
    """
    axes.axhline(0, color="#333333", linewidth=0.9, zorder=1.5)
    styles = dict(zip(picture.curves, line_styles(len(picture.curves)), strict=True))
    for difference in picture.differences_of(column):
        band, style = difference.interval(column), styles[difference.second]
        label = shorten_label(difference.label)
        _draw_band(axes, band["mean"], band["low"], band["high"], style, label=label)


def _draw_band(axes: Axes, means: Any, low: Any, high: Any, style: LineStyle, **line: Any) -> None:
    step = max(1, len(means) // MARKERS_ON_A_LINE)
    marker = "o" if len(means) == 1 else style.marker
    axes.plot(
        means.index, means, color=style.colour, linewidth=style.width, marker=marker,
        markersize=4, markevery=(step // 2, step), **line,
    )  # fmt: skip
    if len(means) == 1:  # a band of no width is a bar
        axes.vlines(means.index, low, high, color=style.colour, linewidth=1)
    elif style.has_band and low.notna().any():
        axes.fill_between(means.index, low, high, color=style.colour, alpha=BAND_OPACITY,
                          linewidth=0)  # fmt: skip
