"""Every pair of arms, metric by metric: their difference over seeds, and how sure it is."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from rkkd_cli.analysis.selection import (
    NO_MONITORS,
    SELECTIONS,
    check_selection,
    measurable,
    selected,
)
from rkkd_cli.analysis.statistics import (
    Difference,
    holm,
    paired_difference,
    seeds_for,
    unpaired_difference,
)
from rkkd_cli.config.monitors import DEFAULT_MONITOR
from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.records.metrics import KEY, varied_in

METRICS = ("test_acc", "test_kl", "test_rank", "test_kendall_tau")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """``other − one`` of one metric.

    ``seeds`` are those of either arm that count, ``dropped`` those that do not: not both arms have
    them, or a value at that epoch. ``why_unpaired`` is empty where seeds are paired; ``caveat``
    says what else keeps the two values apart. ``seeds_needed`` resolve a difference of this effect
    size with a power of 80 %; None where that cannot be said. ``p_holm`` is corrected for the
    family: everything compared together. ``monitors`` are the metrics that select epochs, the
    first of ``one``, where ``select`` is ``val``.
    """

    one: str
    other: str
    metric: str
    select: str
    mean_one: float
    mean_other: float
    epochs_one: tuple[int, ...]
    epochs_other: tuple[int, ...]
    difference: Difference
    seeds: int = 0
    dropped: int = 0
    why_unpaired: str = ""
    caveat: str = ""
    seeds_needed: int | None = None
    p_holm: float | None = None
    family: int = 1
    monitors: tuple[str, str] = (DEFAULT_MONITOR, DEFAULT_MONITOR)

    @property
    def which_epoch(self) -> str:
        """Which epoch counts, told."""
        if self.select != "val" or set(self.monitors) == {DEFAULT_MONITOR}:
            return SELECTIONS[self.select].told
        return f"epoch with the best {' and '.join(dict.fromkeys(self.monitors))}"

    @property
    def verdict(self) -> Literal["higher", "lower", "not resolved"]:
        """What ``other`` is beside ``one``, by the t interval; not resolved where it contains 0."""
        interval = self.difference.interval
        if interval is None or interval.contains_zero:
            return "not resolved"
        return "higher" if interval.low > 0 else "lower"


def compare_arms(
    metrics: pd.DataFrame,
    metrics_names: Sequence[str] = METRICS,
    select: str = "last",
    pairs: Sequence[Pair] | None = None,
    why_unpaired: Mapping[Pair, str] | None = None,
    ended_early: Collection[tuple[str, int]] = (),
    monitors: Mapping[str, str] = NO_MONITORS,
) -> list[Comparison]:
    """Compare the ``pairs`` of arms (default: all, in the order of the file) in every metric.

    Args:
        metrics: rows of metrics.csv.
        metrics_names: columns; losses in nats or raw, accuracies in percent.
        select: ``last``, ``best`` or ``val``: which epoch counts.
        pairs: (one, other); the difference is other − one.
        why_unpaired: the pairs whose seeds do not belong together, with the reason.
        ended_early: the (arm, seed) whose last epoch is their own.
        monitors: the metric by which ``val`` selects, of the arms that have another than val_acc.

    A metric that an arm has no values of is left out of its pairs. Raises UserError for rows,
    arms, metrics or a validation split that are not there.
    """
    check_names(metrics, metrics_names)
    check_selection(metrics, select)
    rows = selected(metrics, select, ended_early, monitors)
    arms = [str(arm) for arm in rows["arm"].unique()]
    wanted = list(itertools.combinations(arms, 2)) if pairs is None else list(pairs)
    for arm in {name: None for pair in wanted for name in pair}:
        if arm not in arms:
            raise unknown_name("arm", arm, arms)
    by_arm = {str(arm): part.set_index("seed") for arm, part in rows.groupby("arm", sort=False)}
    known = {str(arm): {*part["seed"]} for arm, part in metrics.groupby("arm", sort=False)}
    found = []
    for pair in wanted:
        seeds = known[pair[0]] | known[pair[1]]
        for metric in metrics_names:
            one, other = (_finite(by_arm[arm], metric) for arm in pair)
            if len(one) and len(other):
                reason = (why_unpaired or {}).get(pair, "")
                compared = _compared(pair, one, other, metric, select, reason)
                one_by, other_by = (monitors.get(arm, DEFAULT_MONITOR) for arm in pair)
                dropped = len(seeds) - compared.seeds
                found.append(replace(compared, dropped=dropped, monitors=(one_by, other_by)))
    return _as_family(found)


def check_names(metrics: pd.DataFrame, names: Sequence[str]) -> None:
    """Raise UserError where there are no rows, or where a name is no column of numbers."""
    if metrics.empty:
        raise UserError("there is no finished epoch to compare")
    header = list(metrics.columns)
    not_numbers = {*KEY, *varied_in(header)}
    choices = [column for column in header if column not in not_numbers]
    for name in names:
        if name not in choices:
            raise unknown_name("metric", name, choices)


def _compared(
    pair: Pair, one: pd.DataFrame, other: pd.DataFrame, metric: str, select: str, reason: str
) -> Comparison:
    common = one.index.intersection(other.index)
    if not reason and len(common) < 2 <= min(len(one), len(other)):
        reason = "they have no seed in common" if common.empty else "only one seed is in common"
    if not reason and common.empty:
        reason = "they have no seed in common"
    if not reason:
        one, other = one.loc[common], other.loc[common]
    measure = unpaired_difference if reason else paired_difference
    values = [part[metric].to_numpy(dtype=float) for part in (one, other)]
    difference = measure(*values)
    needed = None
    if difference.effect is not None:
        needed = seeds_for(difference.effect, difference.paired)
    return Comparison(
        one=pair[0], other=pair[1], metric=metric, select=select,
        mean_one=float(values[0].mean()), mean_other=float(values[1].mean()),
        epochs_one=_epochs(one), epochs_other=_epochs(other), difference=difference,
        seeds=len(one.index.union(other.index)),
        why_unpaired=reason, seeds_needed=needed,
    )  # fmt: skip


def _finite(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    return rows.loc[measurable(rows[metric]).notna()]


def _epochs(rows: pd.DataFrame) -> tuple[int, ...]:
    return tuple(sorted({int(epoch) for epoch in rows["epoch"]}))


def _as_family(comparisons: list[Comparison]) -> list[Comparison]:
    corrected = holm([one.difference.p for one in comparisons])
    family = sum(p is not None for p in corrected)
    return [
        replace(one, p_holm=p, family=family) for one, p in zip(comparisons, corrected, strict=True)
    ]
