"""Every pair of arms, metric by metric: their difference over seeds, and how sure it is."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from rkkd_cli.analysis.selection import (
    NO_MONITORS,
    check_selection,
    mask_diverged,
    select_rows,
    selection_of,
)
from rkkd_cli.analysis.statistics import (
    ALPHA,
    MIN_SEEDS,
    Difference,
    holm_corrected,
    paired_difference,
    seeds_needed,
    unpaired_difference,
)
from rkkd_cli.config.tasks import CLASSIFICATION, TASKS, task_of
from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.records.metrics import ROW_KEY, varied_keys_in

Verdict = Literal["higher", "lower", "not resolved", "too few seeds", "not judged"]
ArmNames = tuple[str, str]  # the first arm, and the second
NO_SEEDS: Mapping[str, Collection[int]] = {}


@dataclass(frozen=True)
class Comparison:
    """``second − first`` of one metric, for two arms.

    ``seeds`` counts the seeds that are compared, ``dropped`` those that are not: one of the arms
    lacks them, or their value at that epoch. ``why_unpaired`` is empty where seeds are paired;
    ``caveat`` says what else makes the two values hard to compare, ``why_not_judged`` what makes
    that impossible. ``p_holm`` is p of the t test, corrected for the ``family``, all comparisons
    that are judged together. ``seeds_needed`` would resolve this effect size with a power of 80 %
    in such a family, where that number exists. ``monitors`` are the metrics that select the epoch
    of the first and of the second arm where ``select`` is ``val``.
    """

    first: str
    second: str
    metric: str
    select: str
    mean_first: float
    mean_second: float
    epochs_first: tuple[int, ...]
    epochs_second: tuple[int, ...]
    difference: Difference
    seeds: int = 0
    dropped: int = 0
    why_unpaired: str = ""
    caveat: str = ""
    why_not_judged: str = ""
    seeds_needed: int | None = None
    p_holm: float | None = None
    family: int = 1
    monitors: tuple[str, str] = (CLASSIFICATION.default_monitor,) * 2

    @property
    def which_epoch(self) -> str:
        """A description of the epoch that counts."""
        monitors = dict.fromkeys(self.monitors)
        tasks = [t for t in TASKS.values() if {*monitors} == {t.default_monitor}]
        if self.select == "val" and not tasks:
            return f"epoch with the best {' and '.join(monitors)}"
        return selection_of(self.select, *tasks or [CLASSIFICATION]).description

    @property
    def has_too_few_seeds(self) -> bool:
        """Whether there are fewer seeds than a verdict takes."""
        return min(self.difference.n, self.difference.n_second) < MIN_SEEDS

    @property
    def verdict(self) -> Verdict:
        """How ``second`` compares with ``first``: by ``p_holm``, which has to be below 5 %."""
        if self.why_not_judged:
            return "not judged"
        if self.has_too_few_seeds:
            return "too few seeds"
        if self.p_holm is None or self.p_holm >= ALPHA:
            return "not resolved"
        return "higher" if self.difference.mean > 0 else "lower"


def compare_arms(
    metrics: pd.DataFrame,
    metrics_names: Sequence[str] | None = None,
    select: str = "last",
    pairs: Sequence[ArmNames] | None = None,
    why_unpaired: Mapping[ArmNames, str] | None = None,
    ended_early: Collection[tuple[str, int]] = (),
    monitors: Mapping[str, str] = NO_MONITORS,
    planned: Mapping[str, Collection[int]] = NO_SEEDS,
) -> list[Comparison]:
    """Compare ``pairs`` of arms (default: all, in the order of the file) in every metric.

    Args:
        metrics: rows of metrics.csv.
        metrics_names: columns, by default the task's; losses in nats or raw, metrics in percent.
        select: ``last``, ``best`` or ``val``: which epoch counts.
        pairs: (first, second); the difference is second − first.
        why_unpaired: the pairs whose seeds are not paired, with the reason.
        ended_early: the (arm, seed) that stopped early; their own last epoch counts.
        monitors: the metric by which ``val`` selects, for arms that do not use the default.
        planned: the seeds of an arm, also those that have no rows and are counted as missing.

    A pair is left out of a metric that one of its arms has no values of. Raises UserError for
    rows, arms, metrics or a validation split that do not exist.
    """
    task = task_of(metrics.columns)
    metrics_names = task.compared_columns if metrics_names is None else metrics_names
    _check_metrics_names(metrics, metrics_names)
    check_selection(metrics, select)
    rows = select_rows(metrics, select, ended_early, monitors)
    by_arm = {str(arm): of_arm.set_index("seed") for arm, of_arm in rows.groupby("arm", sort=False)}
    pairs = list(itertools.combinations(by_arm, 2)) if pairs is None else pairs
    for arm in itertools.chain(*pairs):
        if arm not in by_arm:
            raise unknown_name("arm", arm, by_arm)
    seeds = {str(arm): {*of_arm["seed"]} for arm, of_arm in metrics.groupby("arm", sort=False)}
    seeds = {arm: known | {*planned.get(arm, ())} for arm, known in seeds.items()}
    comparisons = []
    for pair in pairs:
        by_first, by_second = (monitors.get(arm, task.default_monitor) for arm in pair)
        for metric in metrics_names:
            of_arms = [by_arm[arm] for arm in pair]
            first, second = (rows[mask_diverged(rows[metric]).notna()] for rows in of_arms)
            if len(first) and len(second):
                reason = (why_unpaired or {}).get(pair, "")
                c = _compare_pair(pair, first, second, metric, select, reason)
                dropped = len(seeds[pair[0]] | seeds[pair[1]]) - c.seeds
                comparisons.append(replace(c, dropped=dropped, monitors=(by_first, by_second)))
    return correct_together(comparisons)


def correct_together(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with ``p_holm``, ``family`` and ``seeds_needed``.

    Those that are not judged, and those of too few seeds, have none of them and do not count.
    """
    left_out = [bool(c.why_not_judged) or c.has_too_few_seeds for c in comparisons]
    p_values = [c.difference.p for c in comparisons]
    corrected = holm_corrected(
        [None if out else p for out, p in zip(left_out, p_values, strict=True)]
    )
    family = sum(p is not None for p in corrected)
    result = []
    for c, p in zip(comparisons, corrected, strict=True):
        effect, needed = c.difference.effect, None
        if p is not None and effect is not None:
            needed = seeds_needed(effect, c.difference.paired, ALPHA / family)
        result.append(replace(c, p_holm=p, family=family, seeds_needed=needed))
    return result


def _check_metrics_names(metrics: pd.DataFrame, names: Sequence[str]) -> None:
    """Raise UserError if there are no rows, or a name is no column of numbers."""
    if metrics.empty:
        raise UserError("there is no finished epoch to compare")
    not_numbers = {*ROW_KEY, *varied_keys_in(list(metrics.columns))}
    choices = [column for column in metrics.columns if column not in not_numbers]
    for name in names:
        if name not in choices:
            raise unknown_name("metric", name, choices)


def _compare_pair(
    pair: ArmNames,
    first: pd.DataFrame,
    second: pd.DataFrame,
    metric: str,
    select: str,
    why_unpaired: str,
) -> Comparison:
    common = first.index.intersection(second.index)
    if not why_unpaired and common.empty:
        why_unpaired = "they have no seed in common"
    if not why_unpaired and len(common) < 2 <= min(len(first), len(second)):
        why_unpaired = "only one seed is in common"
    if not why_unpaired:
        first, second = first.loc[common], second.loc[common]
    values = [rows[metric].to_numpy(dtype=float) for rows in (first, second)]
    difference = (unpaired_difference if why_unpaired else paired_difference)(*values)
    return Comparison(
        first=pair[0], second=pair[1], metric=metric, select=select,
        mean_first=float(values[0].mean()), mean_second=float(values[1].mean()),
        epochs_first=_epochs(first), epochs_second=_epochs(second), difference=difference,
        seeds=len(first.index.union(second.index)),
        why_unpaired=why_unpaired,
    )  # fmt: skip


def _epochs(rows: pd.DataFrame) -> tuple[int, ...]:
    return tuple(sorted({int(epoch) for epoch in rows["epoch"]}))
