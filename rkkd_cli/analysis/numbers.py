"""How sentences and tables write numbers, and whether a higher value of a metric is better."""

import math

from rkkd_cli.analysis.statistics import Interval
from rkkd_cli.config.tasks import METRIC_NAMES
from rkkd_cli.records.metrics import DIAGNOSTICS

# Columns of metrics.csv, with or without val_ and test_, that are better when higher.
MORE_IS_BETTER = (*METRIC_NAMES, "kendall_tau", "agreement", "images_per_second")
# Columns that are neither better nor worse when higher.
NEUTRAL = ("lr", *DIAGNOSTICS)


def more_is_better(metric: str) -> bool:
    """Whether a higher value is better; it is not for terms, which are losses."""
    metric = metric.removesuffix("_ema")
    return any(metric == name or metric.endswith(f"_{name}") for name in MORE_IS_BETTER)


def format_number(value: float | None, sign: bool = False, significant: int = 3) -> str:
    """Return the value with so many significant digits, from 1,000 on whole; – for None."""
    if value is None or math.isnan(value):
        return "–"
    value += 0.0  # -0.0 becomes 0
    if abs(value) >= 1000:
        return f"{value:+,.0f}" if sign else f"{value:,.0f}"
    digits = max(0, significant - 1 - math.floor(math.log10(abs(value) or 1)))
    if digits > 6:
        return f"{value:+.2e}" if sign else f"{value:.2e}"
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def format_interval(interval: Interval | None) -> str:
    """Return ``-0.12 to 0.45``, or – for None."""
    if interval is None:
        return "–"
    return f"{format_number(interval.low)} to {format_number(interval.high)}"


def format_p_value(p: float | None) -> str:
    """Return a p-value, or – for None."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def format_count(n: int, noun: str) -> str:
    """Return ``1 seed`` or ``3 seeds``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
