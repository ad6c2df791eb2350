"""The findings that an experiment states itself, checked on its rows."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from rkkd_cli.analysis.compare import ArmNames, Comparison, compare_arms
from rkkd_cli.analysis.findings.verdict import (
    ClaimPart,
    Finding,
    answered,
    interval_text,
    not_judged,
    sides,
)
from rkkd_cli.analysis.grid_tables import format_value
from rkkd_cli.analysis.numbers import format_count, format_number, more_is_better
from rkkd_cli.analysis.pairing import add_caveats, why_unpaired_within
from rkkd_cli.analysis.statistics import MIN_SEEDS, TTest
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import is_baseline
from rkkd_cli.config.overrides import flatten
from rkkd_cli.config.stated_findings import TEACHER, ArmSelector, StatedFinding, select_arms
from rkkd_cli.config.tasks import task_of
from rkkd_cli.errors import UserError, first_of

Arms = Mapping[str, Experiment]
MAX_SHOWN_ARMS = 12  # in a message; a grid has many


def measure_stated_findings(
    experiment: Experiment,
    metrics: pd.DataFrame,
    ended_early: Collection[tuple[str, int]] = (),
    teachers: Sequence[Mapping[str, Any]] = (),
) -> list[Finding]:
    """Return the experiment's own findings. One that cannot be judged says why in its note.

    The verdicts come from :func:`rkkd_cli.analysis.findings.verdict.judge_together`.
    """
    arms = {arm.name: arm.experiment for arm in experiment.resolved_arms}
    return [
        _measure(name, stated, arms, metrics, ended_early, teachers)
        for name, stated in experiment.findings.items()
    ]


def _measure(
    name: str,
    stated: StatedFinding,
    arms: Arms,
    metrics: pd.DataFrame,
    ended_early: Collection[tuple[str, int]],
    teachers: Sequence[Mapping[str, Any]],
) -> Finding:
    try:
        arms, metrics = _with_teacher(stated, arms, metrics, teachers)
        pairs = _pairs(stated, arms)
        comparisons = _compare(stated, pairs, arms, metrics, ended_early)
    except UserError as error:
        return not_judged(name, stated.claim, str(error))
    caveats = [caveat for c in comparisons for caveat in (c.why_not_judged, c.caveat) if caveat]
    limits = [*dict.fromkeys(caveats)]
    missing = len(pairs) - len(comparisons)
    if missing:
        of_pairs = f"{missing} of {len(pairs)} pairs of arms"
        limits.append(f"{of_pairs} have no values of {stated.metric}")
    parts = [_measure_pair(stated, c) for c in comparisons]
    reasons = dict.fromkeys(c.why_unpaired for c in comparisons if c.why_unpaired)
    remarks = [f"not paired, since {reason}" for reason in reasons]
    dropped = max((c.dropped for c in comparisons), default=0)
    if dropped:
        remarks.append(f"{format_count(dropped, 'seed')} left out that not all arms have")
    fewest = min((min(c.difference.n, c.difference.n_second) for c in comparisons), default=0)
    if 0 < fewest < MIN_SEEDS:
        remarks.append(f"{format_count(fewest, 'seed')}, and a verdict takes {MIN_SEEDS}")
    if limits or not parts:
        return not_judged(name, stated.claim, "; ".join([*limits, *remarks]), parts)
    return Finding(name, stated.claim, "not resolved", parts, "; ".join(remarks))


def _with_teacher(
    stated: StatedFinding,
    arms: Arms,
    metrics: pd.DataFrame,
    teachers: Sequence[Mapping[str, Any]],
) -> tuple[Arms, pd.DataFrame]:
    """Return arms and rows with the teacher as one more arm, if the finding names it.

    Its value is the same in each epoch and seed. Raises UserError if that is not known.
    """
    if TEACHER in arms or TEACHER not in stated.arm_names:
        return arms, metrics
    levels = [facts.get(stated.metric) for facts in teachers]
    if len(levels) != 1 or levels[0] is None:
        raise UserError(f"{stated.metric} of one teacher is not recorded")
    arm = next(name for name in stated.arm_names if name != TEACHER)
    rows = metrics[metrics["arm"] == arm].copy()
    rows["arm"], rows[stated.metric] = TEACHER, float(levels[0])
    return {**arms, TEACHER: arms[arm]}, pd.concat([metrics, rows], ignore_index=True)


def _compare(
    stated: StatedFinding,
    pairs: Sequence[ArmNames],
    arms: Arms,
    metrics: pd.DataFrame,
    ended_early: Collection[tuple[str, int]],
) -> list[Comparison]:
    task = task_of(metrics.columns)
    comparisons = compare_arms(
        metrics,
        [stated.metric],
        stated.select,
        pairs,
        why_unpaired_within({arm: arms[arm] for arm in itertools.chain(*pairs)}),
        ended_early,
        {name: arm.training.selects_by or task.default_monitor for name, arm in arms.items()},
        {name: arm.seeds for name, arm in arms.items()},
    )
    return add_caveats(comparisons, arms)


def _pairs(stated: StatedFinding, arms: Arms) -> list[ArmNames]:
    """Return the pairs (worse, better), or all pairs of ``same``. Raises UserError.

    Where both sides are values of keys, an arm is compared with those that differ in nothing else.
    """
    if stated.same is not None:
        return list(itertools.combinations(_existing_arms(stated.same, arms), 2))
    assert stated.better is not None
    assert stated.worse is not None
    better, worse = _existing_arms(stated.better, arms), _existing_arms(stated.worse, arms)
    if isinstance(stated.better, dict) and isinstance(stated.worse, dict):
        keys = {*flatten(stated.better), *flatten(stated.worse)}
        pairs = [(c, arm) for arm in better for c in _counterparts(arm, worse, keys, arms)]
        if pairs:
            return pairs
    return [(low, high) for low in worse for high in better if low != high]


def _counterparts(arm: str, among: Sequence[str], keys: set[str], arms: Arms) -> list[str]:
    """Return the arms that differ from ``arm`` in these keys only, else in their sections only."""
    differing = {name: _differing_keys(arms[name], arms[arm]) for name in among if name != arm}
    in_keys = [name for name, differs in differing.items() if differs <= keys]
    sections = {key.partition(".")[0] for key in keys}
    return in_keys or [
        name
        for name, differs in differing.items()
        if {key.partition(".")[0] for key in differs} <= sections
    ]


def _differing_keys(first: Experiment, second: Experiment) -> set[str]:
    before, after = flatten(first.model_dump()), flatten(second.model_dump())
    return {key for key in {*before, *after} if before.get(key) != after.get(key)}


def _existing_arms(selector: ArmSelector, arms: Arms) -> Sequence[str]:
    """Return the selected arms; a baseline only if named. Raises UserError if there are none."""
    no_baselines = {name: arm for name, arm in arms.items() if not is_baseline(name)}
    selected = select_arms(selector, no_baselines)
    missing = [arm for arm in selected if arm not in arms]
    if missing or not selected:
        what = f"arm {missing[0]!r}" if missing else f"arm with {_describe_values(selector)}"
        raise UserError(f"the run has no {what}; its arms are {first_of(arms, MAX_SHOWN_ARMS)}")
    return selected


def _describe_values(selector: ArmSelector) -> str:
    assert isinstance(selector, dict)
    values = flatten(selector).items()
    return " and ".join(f"{key} = {format_value(value)}" for key, value in values)


def _measure_pair(stated: StatedFinding, c: Comparison) -> ClaimPart:
    d, better = c.difference, 1 if more_is_better(c.metric) else -1
    if stated.within is not None:
        what = f"{c.second} is within {format_number(stated.within)} of {c.first}"
    else:
        beyond = f" by more than {format_number(stated.margin)}" if stated.margin else ""
        what = f"{c.second} is {'higher' if better > 0 else 'lower'} than {c.first}{beyond}"
    interval = "no interval" if d.interval is None else interval_text(d.interval)
    interval = "in each seed, no spread" if d.is_flat else interval
    numbers = f"{format_number(d.mean, sign=True)} ({c.metric}), {interval}, n = {d.n}"
    p_yes, p_no = 1.0, 1.0
    if d.t_test is not None and stated.within is not None:
        p_yes, p_no = _sides_of_equality(d.t_test, stated.within)
    elif d.t_test is not None:
        p_yes, p_no = sides(d.t_test, better, better * stated.margin)
    return answered(what, numbers, min(d.n, d.n_second), p_yes, p_no)


def _sides_of_equality(test: TTest, within: float) -> tuple[float, float]:
    """Return the p-values of a true difference within ± ``within``, and of one beyond.

    It is within if it is above −within and below within: two one-sided tests (Schuirmann 1987), at
    2.5 % each, so that the 95 % interval lies between the two.
    """
    low, high = sides(test, +1, -within), sides(test, -1, within)
    return max(low[0], high[0]), min(low[1], high[1])
