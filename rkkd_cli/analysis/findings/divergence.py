"""Helps KL: with the ranking loss KL falls faster early, oscillates less, and ends lower."""

from typing import Any

import pandas as pd

from rkkd_cli.analysis.findings.curves import Curves
from rkkd_cli.analysis.findings.judge import judged
from rkkd_cli.analysis.findings.verdict import Part
from rkkd_cli.analysis.stages import Stage

CLAIM = (
    "In {treated} KL falls faster at first than in {control}, oscillates less before the first "
    "drop of the learning rate, and ends lower."
)
FEWEST = 3  # epochs that have a second difference


def divergence(curves: Curves) -> list[Part]:
    """Return the gap in the early phase, the oscillation in its second half, and the ends."""
    early, gap, end = curves.early, curves.between("kl"), f"epoch {curves.last}"
    unit = " nats"
    drops = len(curves.stages) > 1
    ends = "ends lower after the last drop" if drops else "ends lower"
    test = curves.between("test_kl").iloc[-1]
    return [
        judged(f"KL falls faster early (mean gap, {_told(early)})",
               gap.loc[early.first : early.last].mean(), -1, unit=unit),
        _calmer(curves),
        judged(f"KL {ends} ({end})", gap.iloc[-1], -1, unit=unit),
        judged(f"KL {ends} on the test images ({end})", test, -1, unit=unit),
    ]  # fmt: skip


def _calmer(curves: Curves) -> Part:
    early = curves.early
    half = Stage(early.first + (early.last - early.first + 1) // 2, early.last)
    what = f"KL oscillates less (mean absolute second difference, {_told(half)})"
    if half.last - half.first + 1 < FEWEST:
        return Part(what, "not resolved", "too few epochs before the first drop to tell")
    control, treated = (oscillation(curves.of(arm, "kl"), half) for arm in curves.arms)
    return judged(what, treated - control, -1, unit=" nats")


def oscillation(curves: pd.DataFrame, stage: Stage) -> "pd.Series[Any]":
    """Return the mean of |x(e − 1) − 2·x(e) + x(e + 1)| over a stage, of each seed.

    A straight line has none, whatever its slope. Only the second half of the early phase is
    looked at: before, the bend of the fall itself would count.
    """
    inside = curves.loc[stage.first : stage.last]
    return inside.diff().diff().abs().mean()


def _told(stage: Stage) -> str:
    return f"epochs {stage.first} to {stage.last}"
