"""What a claim comes to: a verdict for each of its parts, and one for all.

A part is judged by one number a seed, whose t interval over seeds is held against zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from rkkd_cli.analysis.numbers import told, told_interval
from rkkd_cli.analysis.statistics import t_interval

Verdict = Literal["supported", "contradicted", "not resolved"]


@dataclass(frozen=True)
class Part:
    """One measurable part of a claim: what is held to be so, and the numbers behind the verdict."""

    what: str
    verdict: Verdict
    numbers: str


@dataclass(frozen=True)
class Finding:
    """A claim held against a run; ``note`` says what limits the answer."""

    name: str
    claim: str
    verdict: Verdict
    parts: list[Part]
    note: str = ""


def combined(parts: Sequence[Part]) -> Verdict:
    """Return supported if all parts are, contradicted if any is, else not resolved.

    Asking for all of them needs no correction for their number: it makes no error likelier.
    """
    verdicts = [part.verdict for part in parts]
    if "contradicted" in verdicts:
        return "contradicted"
    return "supported" if verdicts and set(verdicts) == {"supported"} else "not resolved"


def judged(
    what: str,
    values: "pd.Series[Any]",
    wanted: int,
    *,
    than: float = 0.0,
    unit: str = "",
    more: str = "",
    coarse: bool = False,
) -> Part:
    """Return the part with its verdict.

    Args:
        what: what is held to be so.
        values: one a seed; those that are not finite are left out, and said to be.
        wanted: +1 where the claim needs values above ``than``, −1 below.
        than: the value to be above or below of, in the unit of the values.
        unit: written behind the mean.
        more: further numbers, written at the end.
        coarse: the statistic has few values, as a rank correlation over some epochs has, so that
            seeds may share one without having no spread: then that value is judged.

    Supported, or contradicted, where the whole interval lies on one side of ``than``; not resolved
    where it does not, and where there is none: one seed, or no spread.
    """
    finite = values[np.isfinite(values.to_numpy(dtype=float))].to_numpy(dtype=float)
    missing = f"; {len(values) - len(finite)} of {len(values)} seeds have no value"
    end = (missing if len(finite) < len(values) else "") + (f"; {more}" if more else "")
    if not finite.size:
        return Part(what, "not resolved", f"no seed has a value{'; ' + more if more else ''}")
    mean, n = float(finite.mean()), len(finite)
    shown = told(mean, sign=than == 0 and not coarse) + unit
    if n == 1:
        return Part(what, "not resolved", f"{shown} in one seed, no interval{end}")
    interval = t_interval(finite)
    if interval is None:
        verdict = _side(mean, mean, wanted, than) if coarse else "not resolved"
        return Part(what, verdict, f"{shown} in each of {n} seeds, no spread{end}")
    numbers = f"{shown}, 95 % interval {told_interval(interval)}, n = {n}{end}"
    return Part(what, _side(interval.low, interval.high, wanted, than), numbers)


def _side(low: float, high: float, wanted: int, than: float) -> Verdict:
    if low > than or high < than:
        return "supported" if (low > than) == (wanted > 0) else "contradicted"
    return "not resolved"
