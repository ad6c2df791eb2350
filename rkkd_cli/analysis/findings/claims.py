"""The five claims of the study, each a sentence and a function that measures its parts on curves.

Direction and gradients are about a control arm; ranking, divergence and accuracy about a pair.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from rkkd_cli.analysis.findings.curves import AlignedCurves
from rkkd_cli.analysis.findings.verdict import ClaimPart, judge_correlation, judge_part
from rkkd_cli.analysis.numbers import format_count, format_number
from rkkd_cli.analysis.stages import ScheduleStage
from rkkd_cli.config.tasks import task_of

DIRECTION_CLAIM = "In {control} the ranking loss falls as KL falls, although nothing optimises it."


def direction(curves: AlignedCurves) -> list[ClaimPart]:
    """Measure the falls from the first to the last epoch, and the rank correlation of the curves.

    The curves are the training terms. Any two falling curves are correlated, so the correlation of
    their changes from epoch to epoch is reported too; the verdict does not depend on it.
    """
    (arm,) = curves.arms
    rank, kl = curves.by_seed(arm, "rank"), curves.by_seed(arm, "kl")
    rho = _correlations(rank, kl, "spearmanr")
    tau = _correlations(rank, kl, "kendalltau").mean()
    rho_of_changes = _correlations(rank.diff().iloc[1:], kl.diff().iloc[1:], "spearmanr").mean()
    span = f"epoch {curves.last} − epoch 1"
    return [
        judge_part(f"the ranking loss falls ({span})", rank.iloc[-1] - rank.iloc[0], -1),
        judge_part(f"KL falls ({span})", kl.iloc[-1] - kl.iloc[0], -1, unit=" nats"),
        judge_correlation(
            "the two move together (Spearman's ρ over epochs)", rho, curves.last, +1,
            more=f"Kendall's τ {format_number(tau)}; of their changes from epoch to epoch ρ is "
            f"{format_number(rho_of_changes)}",
        ),
    ]  # fmt: skip


def _correlations(first: pd.DataFrame, second: pd.DataFrame, statistic: str) -> "pd.Series[Any]":
    """Return each seed's correlation; NaN for a constant curve or fewer than three epochs."""
    correlate = getattr(stats, statistic)
    correlations = {}
    for seed in first:
        x, y = first[seed].to_numpy(dtype=float), second[seed].to_numpy(dtype=float)
        is_known = np.isfinite(x) & np.isfinite(y)
        x, y = x[is_known], y[is_known]
        undefined = x.size < 3 or np.ptp(x) == 0 or np.ptp(y) == 0
        correlations[seed] = np.nan if undefined else float(correlate(x, y).statistic)
    return pd.Series(correlations, dtype=float)


RANKING_CLAIM = (
    "With its gradient ({treated}) the ranking loss falls faster than in {control}, and lower."
)
OWN_SCALES = "each arm records its own ranking loss, so Kendall's τ-b is compared instead"


def ranking(curves: AlignedCurves, rank_is_shared: bool = True) -> list[ClaimPart]:
    """Measure the mean gap of the curves, the epochs to the control's last value, and the ends.

    If the arms record the ranking loss with different settings, Kendall's τ-b is compared instead,
    of which higher is better.
    """
    column, wanted = ("rank", -1) if rank_is_shared else ("kendall_tau", +1)
    name = "the ranking loss" if rank_is_shared else "τ-b"
    word = "lower" if rank_is_shared else "higher"
    gap, test_gap = curves.gap(column), curves.gap(f"test_{column}")
    end = f"epoch {curves.last}"
    return [
        judge_part(f"{name} is {word} on the way (mean gap over {curves.last} epochs)",
                   gap.mean(), wanted),
        _sooner(curves, column, wanted),
        judge_part(f"{name} ends {word} ({end})", gap.iloc[-1], wanted),
        judge_part(f"{name} ends {word} on the test images ({end})", test_gap.iloc[-1], wanted),
    ]  # fmt: skip


def _sooner(curves: AlignedCurves, column: str, better: int) -> ClaimPart:
    """Measure how many epochs earlier the treated arm reaches the control's last value.

    A seed that never reaches it counts as one epoch after the last. The number is then only a
    bound, so it supports nothing: its answer is at best open.
    """
    control, treated = (curves.by_seed(arm, column) for arm in curves.arms)
    target = control.iloc[-1]
    epochs = epochs_to_reach(treated, target, better)
    never = int(epochs.isna().sum())
    gap = epochs.fillna(curves.last + 1) - epochs_to_reach(control, target, better)
    what = f"{curves.arms[1]} reaches the final value of {curves.arms[0]} in fewer epochs"
    more = f"{format_count(never, 'seed')} never reached it" if never else ""
    part = judge_part(what, gap, -1, unit=" epochs", more=more)
    if never and part.answer == "yes":
        return ClaimPart(what, "open", part.numbers)
    return part


def epochs_to_reach(
    curves: pd.DataFrame, targets: "pd.Series[Any]", better: int
) -> "pd.Series[Any]":
    """Return the epoch at which each seed's curve first reaches its target, interpolated.

    ``better`` is +1 if the curves rise to it, −1 if they fall. NaN if it is never reached.
    """
    reached = {}
    epochs = curves.index.to_numpy(dtype=float)
    for seed, target in targets.items():
        excess = better * (curves[seed].to_numpy(dtype=float) - float(target))
        indices = np.flatnonzero(excess >= 0)
        if not indices.size:
            reached[seed] = np.nan
            continue
        i = int(indices[0])
        reached[seed] = float(epochs[i])
        if i and np.isfinite(excess[i - 1]) and excess[i] > excess[i - 1]:
            share = excess[i] / (excess[i] - excess[i - 1])
            reached[seed] -= float(share) * (epochs[i] - epochs[i - 1])
    return pd.Series(reached, dtype=float)


DIVERGENCE_CLAIM = (
    "In {treated} KL falls faster at first than in {control}, oscillates less before the first "
    "drop of the learning rate, and ends lower."
)
MIN_EPOCHS_OF_OSCILLATION = 3  # fewer have no second difference


def divergence(curves: AlignedCurves) -> list[ClaimPart]:
    """Measure the gap in the early phase, the oscillation in its second half, and the ends."""
    early, gap, test_gap = curves.early, curves.gap("kl"), curves.gap("test_kl")
    ends = "ends lower after the last drop" if len(curves.stages) > 1 else "ends lower"
    end = f"epoch {curves.last}"
    return [
        judge_part(f"KL falls faster early (mean gap, {early.text})",
                   gap.loc[early.first : early.last].mean(), -1, unit=" nats"),
        _calmer(curves),
        judge_part(f"KL {ends} ({end})", gap.iloc[-1], -1, unit=" nats"),
        judge_part(f"KL {ends} on the test images ({end})", test_gap.iloc[-1], -1, unit=" nats"),
    ]  # fmt: skip


def _calmer(curves: AlignedCurves) -> ClaimPart:
    """Measure the oscillation in the second half of the early phase.

    In the first half the bend of KL's fall itself would count as oscillation.
    """
    early = curves.early
    half = ScheduleStage(early.first + (early.last - early.first + 1) // 2, early.last)
    what = f"KL oscillates less (mean absolute second difference, {half.text})"
    if half.last - half.first + 1 < MIN_EPOCHS_OF_OSCILLATION:
        return ClaimPart(what, "not tested", "too few epochs before the first drop to tell")
    control, treated = (oscillation(curves.by_seed(arm, "kl"), half) for arm in curves.arms)
    return judge_part(what, treated - control, -1, unit=" nats")


def oscillation(curves: pd.DataFrame, stage: ScheduleStage) -> "pd.Series[Any]":
    """Return the mean of |x(e − 1) − 2·x(e) + x(e + 1)| over a stage, of each seed.

    It is 0 for a straight line, whatever its slope.
    """
    return curves.loc[stage.first : stage.last].diff().diff().abs().mean()


ACCURACY_CLAIM = "{treated} has the higher test {metric} than {control} at all stages of training."


def accuracy(curves: AlignedCurves) -> list[ClaimPart]:
    """Measure the mean lead, with the share of epochs in the lead, and the lead at stage ends."""
    gap = curves.gap(task_of(curves.rows.columns).main_column)
    shares = (gap > 0).mean() * 100
    more = f"in the lead in {shares.mean():.0f} % of the epochs"
    if len(shares) > 1:
        more += f" ({shares.min():.0f} to {shares.max():.0f} % by seed)"
    on_the_way = f"ahead on the way (mean lead over {curves.last} epochs)"
    by_epoch = gap.T  # one column per epoch
    ends = [
        judge_part(f"ahead at the end of stage {n} of {len(curves.stages)} (epoch {stage.last})",
                   by_epoch[stage.last], +1, unit=" points")
        for n, stage in enumerate(curves.stages, 1)
    ]  # fmt: skip
    return [judge_part(on_the_way, gap.mean(), +1, unit=" points", more=more), *ends]


GRADIENTS_CLAIM = (
    "In {control} KL's gradient scales with the teacher's probabilities, so that the lower half of "
    "the channels has no larger share of it than of them, and more of the ranking loss' gradient."
)
GRADIENT_COLUMNS = ("grad_low_share_kl", "grad_low_share_teacher", "grad_low_share_rank")
LIVE_PAIRS = "grad_live_pairs"


def gradients(curves: AlignedCurves) -> list[ClaimPart]:
    """Measure the shares on the lower half of the channels, means over epochs.

    They are those of the control arm, where KL acts without the ranking loss. Were KL's gradient on
    each channel in proportion to the teacher's probability, its share would be the teacher's. No
    sample confirms that two shares are equal, so the claim is that KL's is not the larger one.

    Source: arXiv 2409.17823, abstract: "gradients induced by KL divergence scale with the magnitude
    of the teacher logits, thereby diminishing updates on low-probability channels"; its ranking
    loss is "rebalancing gradients toward low-probability channels".
    """
    (arm,) = curves.arms
    by_epoch = [curves.by_seed(arm, column) for column in GRADIENT_COLUMNS]
    kl, teacher, rank = (shares.mean() for shares in by_epoch)
    excess = by_epoch[0] - by_epoch[1]
    of_kl = f"KL's share is {format_number(kl.mean())}, "
    of_kl += f"the teacher's {format_number(teacher.mean())}"
    for epoch in sorted({1, curves.last}):
        of_kl += f"; {format_number(excess.T[epoch].mean(), sign=True)} in epoch {epoch}"
    of_rank = f"the ranking loss' share is {format_number(rank.mean())}"
    if curves.has(LIVE_PAIRS):
        live = curves.by_seed(arm, LIVE_PAIRS).mean().mean()
        of_rank += f", and {format_number(live)} of the pairs are live"
    return [
        judge_part("KL's share is no larger than the teacher's", excess.mean(), -1, more=of_kl),
        judge_part("the ranking loss' share is larger than KL's", rank - kl, +1, more=of_rank),
    ]
