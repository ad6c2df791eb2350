"""Ranking optimised faster and further: with the gradient the ranking loss falls faster, lower."""

from typing import Any

import numpy as np
import pandas as pd

from rkkd_cli.analysis.findings.curves import Curves
from rkkd_cli.analysis.findings.judge import judged
from rkkd_cli.analysis.findings.verdict import Part
from rkkd_cli.analysis.numbers import counted

CLAIM = "With its gradient ({treated}) the ranking loss falls faster than in {control}, and lower."
OWN_SCALES = "each arm records its own ranking loss, so Kendall's τ-b is compared instead"


def ranking(curves: Curves, rank_is_shared: bool = True) -> list[Part]:
    """Return the area between the curves, the epochs to the control's end, and the ends.

    Where the arms record other ranking losses, Kendall's τ-b, which is the same for all, stands
    for them: higher is better.
    """
    column, wanted = ("rank", -1) if rank_is_shared else ("kendall_tau", +1)
    name = "the ranking loss" if rank_is_shared else "τ-b"
    word = "lower" if rank_is_shared else "higher"
    gap = curves.between(column)
    end = f"epoch {curves.last}"
    return [
        judged(f"{name} is {word} on the way (mean gap over {curves.last} epochs)",
               gap.mean(), wanted),
        _sooner(curves, column, wanted),
        judged(f"{name} ends {word} ({end})", gap.iloc[-1], wanted),
        judged(f"{name} ends {word} on the test images ({end})",
               curves.between(f"test_{column}").iloc[-1], wanted),
    ]  # fmt: skip


def _sooner(curves: Curves, column: str, better: int) -> Part:
    """Return how many epochs earlier the treated arm is where the control ends.

    A seed that never gets there counts as one epoch after the last; then the number is no more
    than a bound, and nothing is supported by it.
    """
    control, treated = (curves.of(arm, column) for arm in curves.arms)
    target = control.iloc[-1]
    there = reached(treated, target, better)
    never = int(there.isna().sum())
    gap = there.fillna(curves.last + 1) - reached(control, target, better)
    what = f"{curves.arms[1]} reaches the final value of {curves.arms[0]} in fewer epochs"
    more = f"{counted(never, 'seed')} never reached it" if never else ""
    part = judged(what, gap, -1, unit=" epochs", more=more)
    if never and part.verdict == "supported":
        return Part(what, "not resolved", part.numbers)
    return part


def reached(curves: pd.DataFrame, targets: "pd.Series[Any]", better: int) -> "pd.Series[Any]":
    """Return the epoch at which each seed's curve first comes to its target, interpolated.

    ``better`` is +1 where curves rise to it, −1 where they fall. NaN: it never does.
    """
    found = {}
    epochs = curves.index.to_numpy(dtype=float)
    for seed, target in targets.items():
        values = better * (curves[seed].to_numpy(dtype=float) - float(target))
        there = np.flatnonzero(values >= 0)
        if not there.size:
            found[seed] = np.nan
            continue
        at = int(there[0])
        found[seed] = float(epochs[at])
        if at and np.isfinite(values[at - 1]) and values[at] > values[at - 1]:
            share = values[at] / (values[at] - values[at - 1])
            found[seed] -= float(share) * (epochs[at] - epochs[at - 1])
    return pd.Series(found, dtype=float)
