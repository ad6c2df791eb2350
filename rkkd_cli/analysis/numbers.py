"""Numbers as sentences and tables show them, and which way of a metric is the better one."""

import math

from rkkd_cli.analysis.statistics import Interval
from rkkd_cli.records.metrics import DIAGNOSTICS

# Columns of metrics.csv (val_ and test_ ones by their ends) of which more is better.
MORE_IS_BETTER = ("acc", "top5", "kendall_tau", "agreement", "images_per_second")


# Columns of which neither way is the better one.
NEUTRAL = ("lr", *DIAGNOSTICS)


def more_is_better(metric: str) -> bool:
    """Tell whether a higher value is the better one; terms, also methods' own, are losses."""
    return any(metric == name or metric.endswith(f"_{name}") for name in MORE_IS_BETTER)


def told(value: float | None, sign: bool = False, significant: int = 3) -> str:
    """Return so many significant digits, or whole numbers from 1,000 on; – for None."""
    if value is None or math.isnan(value):
        return "–"
    value += 0.0  # -0.0 is 0
    if abs(value) >= 1000:
        return f"{value:+,.0f}" if sign else f"{value:,.0f}"
    places = significant - 1 - math.floor(math.log10(abs(value) or 1))
    digits = max(0, places)
    if digits > 6:
        return f"{value:+.2e}" if sign else f"{value:.2e}"
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def told_interval(interval: Interval | None) -> str:
    """Return ``-0.12 to 0.45``, or – for None."""
    return "–" if interval is None else f"{told(interval.low)} to {told(interval.high)}"


def told_p(p: float | None) -> str:
    """Return a p-value, or – for None."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def counted(n: int, what: str) -> str:
    """Return ``1 seed`` or ``3 seeds``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
