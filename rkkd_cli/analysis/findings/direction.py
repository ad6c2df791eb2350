"""Consistent direction: in the control arm the ranking loss falls as KL falls."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from rkkd_cli.analysis.findings.curves import Curves
from rkkd_cli.analysis.findings.judge import judged
from rkkd_cli.analysis.findings.verdict import Part
from rkkd_cli.analysis.numbers import told

CLAIM = "In {control} the ranking loss falls as KL falls, although nothing optimises it."


def direction(curves: Curves) -> list[Part]:
    """Return the falls from the first to the last epoch, and the rank correlation of the curves.

    The curves are the training terms. Two falling curves are always correlated, so the correlation
    of their changes from epoch to epoch stands beside; the verdict does not depend on it.
    """
    (arm,) = curves.arms
    rank, kl = curves.of(arm, "rank"), curves.of(arm, "kl")
    together = _correlations(rank, kl, "spearmanr")
    taus = _correlations(rank, kl, "kendalltau").mean()
    changes = _correlations(rank.diff().iloc[1:], kl.diff().iloc[1:], "spearmanr").mean()
    span = f"epoch {curves.last} − epoch 1"
    return [
        judged(f"the ranking loss falls ({span})", rank.iloc[-1] - rank.iloc[0], -1),
        judged(f"KL falls ({span})", kl.iloc[-1] - kl.iloc[0], -1, unit=" nats"),
        judged(
            "the two move together (Spearman's ρ over epochs)", together, +1, coarse=True,
            more=f"Kendall's τ {told(taus)}; of their changes from epoch to epoch ρ is "
            f"{told(changes)}",
        ),
    ]  # fmt: skip


def _correlations(one: pd.DataFrame, other: pd.DataFrame, kind: str) -> "pd.Series[Any]":
    """Return the correlation of each seed; none where a curve is level or has two epochs."""
    found = {}
    for seed in one:
        x, y = one[seed].to_numpy(dtype=float), other[seed].to_numpy(dtype=float)
        whole = np.isfinite(x) & np.isfinite(y)
        x, y = x[whole], y[whole]
        level = x.size < 3 or np.ptp(x) == 0 or np.ptp(y) == 0
        found[seed] = np.nan if level else float(getattr(stats, kind)(x, y).statistic)
    return pd.Series(found, dtype=float)
