"""The verdict on a claim, by p-values of its parts.

A part has one number per seed, whose mean is held against a threshold by a t test. A claim is
supported if all its parts are on the claimed side: its p is the largest of theirs, which needs no
correction for their number. It is contradicted if one part is on the other side: its p is the
smallest of theirs, times their number. Claims that are judged together are corrected for their
number (Holm): see :func:`judge_together`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from rkkd_cli.analysis.numbers import (
    format_count,
    format_interval,
    format_number,
    format_p_value,
)
from rkkd_cli.analysis.statistics import (
    ALPHA,
    MIN_SEEDS,
    FloatArray,
    Interval,
    TTest,
    correlation_t_test,
    holm_corrected,
    t_test,
)

Verdict = Literal["supported", "contradicted", "not resolved", "too few seeds", "not judged"]
Answer = Literal["yes", "no", "open", "too few seeds", "not tested"]


@dataclass(frozen=True)
class ClaimPart:
    """One measurable part of a claim: what it says, whether it is so, and the numbers behind it.

    ``answer`` is ``yes`` or ``no`` if the whole 95 % interval of the part lies on one side of the
    threshold, ``open`` if the threshold lies inside. ``p_yes`` and ``p_no`` are the p-values of the
    two answers: that of the t test, or 1 if the mean lies on the other side.
    """

    what: str
    answer: Answer
    numbers: str
    p_yes: float = 1.0
    p_no: float = 1.0


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict for a run; ``note`` says what limits the answer.

    ``p`` is corrected for the number of claims, ``family``, that were judged together; None where
    the verdict is ``too few seeds`` or ``not judged``.
    """

    name: str
    claim: str
    verdict: Verdict
    parts: list[ClaimPart]
    note: str = ""
    p: float | None = None
    family: int = 1


def not_judged(name: str, claim: str, note: str, parts: Sequence[ClaimPart] = ()) -> Finding:
    """Return the finding on a claim that the run could not test."""
    return Finding(name, claim, "not judged", [*parts], note)


def judge_together(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings with their verdicts, corrected for their number (Holm 1979).

    Those that were found not judged stay so, and do not count.
    """
    p_values = [None if f.verdict == "not judged" else _p_of_claim(f.parts) for f in findings]
    corrected = holm_corrected(p_values)
    family = sum(p is not None for p in corrected)
    return [
        f if f.verdict == "not judged" else _with_verdict(f, p, family)
        for f, p in zip(findings, corrected, strict=True)
    ]


def _with_verdict(finding: Finding, p: float | None, family: int) -> Finding:
    if p is not None and p < ALPHA:
        verdict: Verdict = "contradicted" if _is_against(finding.parts) else "supported"
        return replace(finding, verdict=verdict, p=p, family=family)
    answers = [part.answer for part in finding.parts]
    if "too few seeds" in answers:
        return replace(finding, verdict="too few seeds")
    if "not tested" in answers:
        untested = f"{format_count(answers.count('not tested'), 'part')} could not be tested"
        note = "; ".join(filter(None, [finding.note, untested]))
        return replace(finding, verdict="not judged", note=note)
    note = "; ".join(filter(None, [finding.note, _why_only_corrected(answers, p, family)]))
    return replace(finding, verdict="not resolved", note=note, p=p, family=family)


def _why_only_corrected(answers: Sequence[Answer], p: float | None, family: int) -> str:
    """Return why a claim is not resolved whose parts have their answers, or an empty string."""
    claims, corrected = format_count(family, "claim"), format_p_value(p)
    if {*answers} == {"yes"}:
        return f"each part by itself says yes, but corrected for {claims} p is {corrected}"
    if "no" in answers:
        parts = format_count(len(answers), "part")
        return f"a part by itself says no, but corrected for {parts} and {claims} p is {corrected}"
    return ""


def _p_of_claim(parts: Sequence[ClaimPart]) -> float | None:
    """Return the p-value of the claim, or of its opposite if that is smaller; None: not tested."""
    if not _tested(parts):
        return None
    return min(_p_supported(parts), _p_contradicted(parts))


def _tested(parts: Sequence[ClaimPart]) -> list[ClaimPart]:
    return [part for part in parts if part.answer not in ("too few seeds", "not tested")]


def _p_supported(parts: Sequence[ClaimPart]) -> float:
    return max(part.p_yes for part in parts)


def _p_contradicted(parts: Sequence[ClaimPart]) -> float:
    tested = _tested(parts)
    return min(1.0, len(tested) * min(part.p_no for part in tested))


def _is_against(parts: Sequence[ClaimPart]) -> bool:
    return _p_contradicted(parts) < _p_supported(parts)


def judge_part(
    what: str,
    values: "pd.Series[Any]",
    wanted: int,
    *,
    than: float = 0.0,
    unit: str = "",
    more: str = "",
) -> ClaimPart:
    """Return the part with its answer.

    Args:
        what: what the part says.
        values: one value per seed; values that are not finite are left out and counted.
        wanted: +1 if the claim needs values above ``than``, −1 below.
        than: the threshold, in the unit of the values.
        unit: written behind the mean.
        more: further numbers, written at the end.
    """
    finite, end = _finite(values, more)
    if not len(finite):
        return ClaimPart(what, "not tested", f"no seed has a value{end}")
    mean, n = float(finite.mean()), len(finite)
    text = format_number(mean, sign=than == 0) + unit
    test = t_test(finite)
    if test is None:
        where = f"in each of {n} seeds, no spread" if n > 1 else "in one seed, no interval"
        answer: Answer = "open" if n >= MIN_SEEDS else "too few seeds"
        return ClaimPart(what, answer, f"{text} {where}{end}")
    numbers = f"{text}, {interval_text(test.interval)}, n = {n}{end}"
    return answered(what, numbers, n, *sides(test, wanted, than))


def judge_correlation(
    what: str, values: "pd.Series[Any]", points: int, wanted: int, more: str = ""
) -> ClaimPart:
    """Return a part about rank correlations over ``points`` points: above 0, or below (−1).

    The interval is that of Fisher's z, turned back into correlations, and reaches to the mean where
    that is 1.
    """
    finite, end = _finite(values, more)
    if not len(finite):
        return ClaimPart(what, "not tested", f"no seed has a value{end}")
    test = correlation_t_test(finite, points)
    if test is None:
        text = f"{format_number(float(finite[0]))} in one seed, no interval{end}"
        return ClaimPart(what, "too few seeds", text)
    z, mean = test.interval, float(finite.mean())
    low, high = min(mean, float(np.tanh(z.low))), max(mean, float(np.tanh(z.high)))
    interval = interval_text(Interval(low, high))
    numbers = f"{format_number(mean)}, {interval}, n = {len(finite)}{end}"
    return answered(what, numbers, len(finite), *sides(test, wanted))


def _finite(values: "pd.Series[Any]", more: str) -> tuple[FloatArray, str]:
    """Return the finite values, and what is written at the end of the numbers."""
    finite = values[np.isfinite(values.to_numpy(dtype=float))].to_numpy(dtype=float)
    end = f"; {more}" if more else ""
    if 0 < len(finite) < len(values):
        lacking = f"{len(values) - len(finite)} of {format_count(len(values), 'seed')}"
        end = f"; {lacking} have no value{end}"
    return finite, end


def interval_text(interval: Interval) -> str:
    """Return ``95 % interval -0.12 to 0.45``."""
    return f"95 % interval {format_interval(interval)}"


def sides(test: TTest, wanted: int, than: float = 0.0) -> tuple[float, float]:
    """Return the p-values of a true mean beyond ``than`` on the wanted side, and on the other."""
    p = test.p(than)
    return (p, 1.0) if wanted * (test.mean - than) > 0 else (1.0, p)


def answered(what: str, numbers: str, n: int, p_yes: float, p_no: float) -> ClaimPart:
    """Return the part with the answer that its p-values give; none of fewer than three seeds."""
    if n < MIN_SEEDS:
        return ClaimPart(what, "too few seeds", numbers)
    answer: Answer = "yes" if p_yes < ALPHA else "no" if p_no < ALPHA else "open"
    return ClaimPart(what, answer, numbers, p_yes, p_no)
