"""A metric against the epoch: its mean over seeds, and a band of one sample deviation around it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from rkkd_cli.report.arms import ArmCurve
from rkkd_cli.report.style import MAX_DISTINCT_ARMS, LineStyle, line_styles, shortened


def draw_means(
    axes: Axes, curves: Sequence[ArmCurve], column: str, opacity: float, dash: Any = None
) -> None:
    """Draw a column of all curves that have it; ``dash`` stands for that of each arm's look.

    One epoch is a point; where all epochs have one seed there is no band. Many lines, which have
    no bands, are drawn at once, in half the time.
    """
    drawn = [
        (look, one)
        for look, one in zip(line_styles(len(curves)), curves, strict=True)
        if column in one.rows
    ]
    if len(curves) > MAX_DISTINCT_ARMS and all(len(one.means) > 1 for _, one in drawn):
        axes.add_collection(
            LineCollection(
                [np.column_stack(_points(one, column)) for _, one in drawn],
                colors=[look.colour for look, _ in drawn],
                linewidths=[look.width for look, _ in drawn],
                linestyles=dash or "-",
            )
        )
        axes.autoscale_view()
        return
    for look, one in drawn:
        _draw_mean(axes, one, column, look, opacity, dash or look.dash)


def _points(curve: ArmCurve, column: str) -> tuple[Any, Any]:
    """Return the epochs and the means."""
    mean = curve.means[column]
    return mean.index.to_numpy(), mean.to_numpy()


def _draw_mean(
    axes: Axes, curve: ArmCurve, column: str, look: LineStyle, opacity: float, dash: Any
) -> None:
    epochs, means = _points(curve, column)
    axes.plot(
        epochs, means, color=look.colour, linewidth=look.width, linestyle=dash,
        marker="o" if len(means) == 1 else None, label=shortened(curve.label),
    )  # fmt: skip
    deviation = curve.deviations[column].to_numpy() if look.has_band else np.full(1, np.nan)
    if not np.isnan(deviation).all():
        low, high = means - deviation, means + deviation
        axes.fill_between(epochs, low, high, color=look.colour, alpha=opacity, linewidth=0)
