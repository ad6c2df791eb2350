"""A metric against the epoch: its mean over seeds, and a band of one sample deviation around it."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes


def draw_mean(
    axes: Axes, rows: pd.DataFrame, column: str, colour: str, opacity: float, **line: Any
) -> "pd.Series[float]":
    """Draw the column of an arm's rows and return its mean by epoch; ``line`` as of ``plot``.

    One epoch is a point; where all epochs have one seed there is no band.
    """
    by_epoch = rows.groupby("epoch")[column]
    mean, deviation = by_epoch.mean(), by_epoch.std(ddof=1)
    marker = "o" if len(mean) == 1 else None
    axes.plot(mean.index, mean, color=colour, linewidth=1.5, marker=marker, **line)
    if deviation.notna().any():
        low, high = mean - deviation, mean + deviation
        axes.fill_between(mean.index, low, high, color=colour, alpha=opacity, linewidth=0)
    return mean
