"""The five claims of the study, each a sentence and a function from curves to its measured parts.

Direction and gradients are about a control arm; ranking, divergence and accuracy about a pair.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from rkkd_cli.analysis.findings.curves import Curves
from rkkd_cli.analysis.findings.verdict import Part, judged
from rkkd_cli.analysis.numbers import counted, told
from rkkd_cli.analysis.stages import Stage

DIRECTION_CLAIM = "In {control} the ranking loss falls as KL falls, although nothing optimises it."


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


RANKING_CLAIM = (
    "With its gradient ({treated}) the ranking loss falls faster than in {control}, and lower."
)
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


DIVERGENCE_CLAIM = (
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


ACCURACY_CLAIM = "{treated} has the higher test accuracy than {control} at all stages of training."


def accuracy(curves: Curves) -> list[Part]:
    """Return the lead over all epochs with the share of epochs in the lead, and at each end."""
    gap = curves.between("test_acc")
    shares = (gap > 0).mean() * 100
    more = f"in the lead in {shares.mean():.0f} % of the epochs"
    if len(shares) > 1:
        more += f" ({shares.min():.0f} to {shares.max():.0f} % by seed)"
    unit = " points"
    at_epoch = gap.T  # a column an epoch
    ends = [
        judged(f"ahead at the end of stage {number} of {len(curves.stages)} (epoch {stage.last})",
               at_epoch[stage.last], +1, unit=unit)
        for number, stage in enumerate(curves.stages, 1)
    ]  # fmt: skip
    on_the_way = f"ahead on the way (mean lead over {curves.last} epochs)"
    return [judged(on_the_way, gap.mean(), +1, unit=unit, more=more), *ends]


GRADIENTS_CLAIM = (
    "In {control} KL's gradient neglects the low channels, and the ranking loss' does not."
)
GRADIENT_COLUMNS = ("grad_low_share_kl", "grad_low_share_rank")
NEGLECTED = 0.25


def gradients(curves: Curves) -> list[Part]:
    """Return the shares of the gradients on the lower half of the channels, means over epochs.

    An even spread puts half of a gradient's absolute values there; less than half of that is
    neglect. In the control arm, where KL acts without the ranking loss.
    """
    (arm,) = curves.arms
    kl, rank = (curves.of(arm, column).mean() for column in GRADIENT_COLUMNS)
    half = "on the lower half of the channels"
    return [
        judged(f"less than a quarter of KL's gradient is {half}", kl, -1, than=NEGLECTED),
        judged(f"more than a quarter of the ranking loss' is {half}", rank, +1, than=NEGLECTED),
        judged("the ranking loss' share is the larger one", rank - kl, +1),
    ]
