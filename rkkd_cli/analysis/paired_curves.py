"""Paired differences of two arms over the epochs: second − first, seed by seed, and their band."""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from scipy import stats

from rkkd_cli.analysis.compare import ArmNames
from rkkd_cli.analysis.findings.arms import rank_pairs
from rkkd_cli.analysis.pairing import RunRecord, why_batches_differ
from rkkd_cli.analysis.selection import mask_diverged
from rkkd_cli.analysis.statistics import CONFIDENCE
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import is_baseline
from rkkd_cli.config.tasks import HARD_TERMS

MAX_PAIRS = 12  # of more, a figure shows none
MAX_NAMED = 3


def arm_pairs(run: RunRecord) -> list[ArmNames]:
    """Return the pairs (first, second) of a run's arms whose difference is its question.

    They are each arm that backpropagates the ranking loss with its control. A run without such
    pairs has each arm with its baseline: the student without distillation, else the first arm.
    Arms whose batches differ are no pair, and of more than ``MAX_PAIRS`` there is none.
    """
    arms = {arm: run.by_arm[arm] for arm in run.arms if arm in run.by_arm}
    if not 2 <= len(arms) <= 2 * MAX_PAIRS:
        return []
    pairs = [pair.names for pair in rank_pairs(run.experiment) if {*pair.names} <= {*arms}]
    if not pairs:
        base = next((arm for arm in arms if is_undistilled(arm, arms)), next(iter(arms)))
        pairs = [(base, arm) for arm in arms if arm != base]
    pairs = [pair for pair in pairs if not why_batches_differ(*(arms[arm] for arm in pair))]
    return pairs if len(pairs) <= MAX_PAIRS else []


def is_undistilled(arm: str, arms: Mapping[str, Experiment]) -> bool:
    """Whether an arm is the student without distillation."""
    return is_baseline(arm) or (arm in arms and arms[arm].method.name in HARD_TERMS)


def pairs_text(pairs: Collection[ArmNames], arms: Collection[str], sign: str = "−") -> str:
    """Return what is subtracted from what, in words, for several pairs of these ``arms``.

    Arms that are left out of the pairs are not spoken of.
    """
    firsts, seconds = (list(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    if len(firsts) > 1:
        return f"arms with the ranking loss {sign} the same arms without"
    if {*arms} <= {*firsts, *seconds}:
        return f"each arm {sign} {firsts[0]}"
    listed = f"{', '.join(seconds[:-1])} and {seconds[-1]}"
    if len(seconds) > MAX_NAMED:
        listed = f"{len(seconds)} of {len(arms)} arms"
    return f"{listed} {sign} {firsts[0]}"


def paired_differences(first: pd.DataFrame, second: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return ``second − first`` of a column, a row per epoch and a column per seed of both.

    Values that only one arm has, or that diverged, are NaN.
    """
    by_seed = [
        rows.assign(**{column: mask_diverged(rows[column])}).pivot(
            index="epoch", columns="seed", values=column
        )
        for rows in (first, second)
    ]
    return (by_seed[1] - by_seed[0]).dropna(how="all").dropna(how="all", axis="columns")


def mean_and_interval(differences: pd.DataFrame) -> pd.DataFrame:
    """Return ``mean``, ``low`` and ``high`` by epoch: the t interval of each epoch alone.

    An epoch with one seed, or with the same difference in every seed, has no interval: NaN.
    """
    n = differences.count(axis="columns")
    mean, std = differences.mean(axis="columns"), differences.std(axis="columns", ddof=1)
    rounding = 1e-12 * differences.abs().max(axis="columns")
    half: pd.Series[float] = std.where(std > rounding) * n.map(t_quantile) / np.sqrt(n)
    return pd.DataFrame({"mean": mean, "low": mean - half, "high": mean + half})


def t_quantile(n: int) -> float:
    """Return t(0.975; n − 1), or NaN for fewer than two seeds."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) if n > 1 else float("nan")
