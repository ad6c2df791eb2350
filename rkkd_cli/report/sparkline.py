"""A curve in one line of text."""

import math
from collections.abc import Sequence

LEVELS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return the values, oldest first, as at most ``width`` bars between their extremes.

    More values than bars are averaged in turn; a value that is not finite is a gap.
    """
    bars = _averaged(values, width)
    finite = [value for value in bars if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return "".join(_bar(value, low, high) for value in bars)


def _averaged(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    ends = [len(values) * (n + 1) // width for n in range(width)]
    parts = [values[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    return [sum(part) / len(part) for part in parts]


def _bar(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return " "
    share = (value - low) / (high - low) if high > low else 0.5
    return LEVELS[min(int(share * len(LEVELS)), len(LEVELS) - 1)]
