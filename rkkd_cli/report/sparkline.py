"""A curve in one line of text."""

import math
from collections.abc import Sequence

import numpy as np

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return the values, oldest first, as at most ``width`` bars between their extremes.

    More values than bars are averaged in groups; a value that is not finite is a gap.
    """
    heights = _averaged(values, width)
    finite = [height for height in heights if math.isfinite(height)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return "".join(_bar(height, low, high) for height in heights)


def _averaged(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    return [float(group.mean()) for group in np.array_split(np.asarray(values), width)]


def _bar(height: float, low: float, high: float) -> str:
    if not math.isfinite(height):
        return " "
    share = (height - low) / (high - low) if high > low else 0.5
    return BARS[min(int(share * len(BARS)), len(BARS) - 1)]
