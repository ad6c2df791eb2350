"""The verdict on a claim, and on each of its parts.

A part has one number per seed. Its t interval over seeds is compared with a threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from rkkd_cli.analysis.numbers import format_interval, format_number
from rkkd_cli.analysis.statistics import t_interval

Verdict = Literal["supported", "contradicted", "not resolved"]


@dataclass(frozen=True)
class ClaimPart:
    """One measurable part of a claim: what it says, the verdict, and the numbers behind it."""

    what: str
    verdict: Verdict
    numbers: str


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict for a run; ``note`` says what limits the answer."""

    name: str
    claim: str
    verdict: Verdict
    parts: list[ClaimPart]
    note: str = ""


def combine_verdicts(parts: Sequence[ClaimPart]) -> Verdict:
    """Return supported if all parts are, contradicted if any is, else not resolved.

    Requiring all parts needs no correction for their number: it makes no error more likely.
    """
    verdicts = [part.verdict for part in parts]
    if "contradicted" in verdicts:
        return "contradicted"
    return "supported" if verdicts and set(verdicts) == {"supported"} else "not resolved"


def judge_part(
    what: str,
    values: "pd.Series[Any]",
    wanted: int,
    *,
    than: float = 0.0,
    unit: str = "",
    more: str = "",
    coarse: bool = False,
) -> ClaimPart:
    """Return the part with its verdict.

    It is supported, or contradicted, if the whole interval lies on one side of ``than``. It is not
    resolved if ``than`` lies inside, or if there is no interval: one seed, or no spread.

    Args:
        what: what the part says.
        values: one value per seed; values that are not finite are left out and counted.
        wanted: +1 if the claim needs values above ``than``, −1 below.
        than: the threshold, in the unit of the values.
        unit: written behind the mean.
        more: further numbers, written at the end.
        coarse: the statistic takes few values, as a rank correlation over few epochs does, so that
            all seeds may share one: then this value alone is compared with ``than``.
    """
    finite = values[np.isfinite(values.to_numpy(dtype=float))].to_numpy(dtype=float)
    n, end = len(finite), f"; {more}" if more else ""
    if not n:
        return ClaimPart(what, "not resolved", f"no seed has a value{end}")
    if n < len(values):
        end = f"; {len(values) - n} of {len(values)} seeds have no value{end}"
    mean = float(finite.mean())
    mean_text = format_number(mean, sign=than == 0 and not coarse) + unit
    if n == 1:
        return ClaimPart(what, "not resolved", f"{mean_text} in one seed, no interval{end}")
    interval = t_interval(finite)
    if interval is None:
        verdict = judge_interval(mean, mean, wanted, than) if coarse else "not resolved"
        return ClaimPart(what, verdict, f"{mean_text} in each of {n} seeds, no spread{end}")
    numbers = f"{mean_text}, 95 % interval {format_interval(interval)}, n = {n}{end}"
    return ClaimPart(what, judge_interval(interval.low, interval.high, wanted, than), numbers)


def judge_interval(low: float, high: float, wanted: int, than: float) -> Verdict:
    """Return the verdict on a claim of values above ``than`` (``wanted`` +1), or below (−1)."""
    if low > than or high < than:
        return "supported" if (low > than) == (wanted > 0) else "contradicted"
    return "not resolved"
