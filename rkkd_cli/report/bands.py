"""A metric against the epoch: its mean over seeds, and a band of one sample deviation around it."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from rkkd_cli.report.arms import Curve
from rkkd_cli.report.style import Look


def draw_mean(
    axes: Axes, curve: Curve, column: str, look: Look, opacity: float, **line: Any
) -> "pd.Series[float]":
    """Draw a column of an arm's curve and return its mean by epoch; ``line`` as of ``plot``.

    One epoch is a point; where all epochs have one seed there is no band.
    """
    mean = curve.means[column]
    marker = "o" if len(mean) == 1 else None
    axes.plot(mean.index, mean, color=look.colour, linewidth=look.width, marker=marker, **line)
    deviation = curve.deviations[column] if look.has_band else None
    if deviation is not None and deviation.notna().any():
        low, high = mean - deviation, mean + deviation
        axes.fill_between(mean.index, low, high, color=look.colour, alpha=opacity, linewidth=0)
    return mean
