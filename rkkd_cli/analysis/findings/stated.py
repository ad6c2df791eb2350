"""The findings that an experiment states itself, checked on its rows."""

import itertools
from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from rkkd_cli.analysis.compare import ArmNames, Comparison, compare_arms
from rkkd_cli.analysis.findings.verdict import (
    ClaimPart,
    Finding,
    Verdict,
    combine_verdicts,
    judge_interval,
)
from rkkd_cli.analysis.grid_tables import format_value
from rkkd_cli.analysis.numbers import format_count, format_interval, format_number, more_is_better
from rkkd_cli.analysis.pairing import add_caveats, why_unpaired_within
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import is_baseline
from rkkd_cli.config.monitors import DEFAULT_MONITOR
from rkkd_cli.config.overrides import flatten
from rkkd_cli.config.stated_findings import ArmSelector, StatedFinding, select_arms
from rkkd_cli.errors import UserError

Arms = Mapping[str, Experiment]


def judge_stated_findings(
    experiment: Experiment, metrics: pd.DataFrame, ended_early: Collection[tuple[str, int]] = ()
) -> list[Finding]:
    """Return the experiment's own findings. One that cannot be measured says why in its note."""
    arms = {arm.name: arm.experiment for arm in experiment.resolved_arms}
    return [
        _judge(name, stated, arms, metrics, ended_early)
        for name, stated in experiment.findings.items()
    ]


def _judge(
    name: str,
    stated: StatedFinding,
    arms: Arms,
    metrics: pd.DataFrame,
    ended_early: Collection[tuple[str, int]],
) -> Finding:
    try:
        pairs = _pairs(stated, arms)
        comparisons = _compare(stated, pairs, arms, metrics, ended_early)
    except UserError as error:
        return Finding(name, stated.claim, "not resolved", [], str(error))
    open_questions = [*dict.fromkeys(c.caveat for c in comparisons if c.caveat)]
    missing = len(pairs) - len(comparisons)
    if missing:
        of_pairs = f"{missing} of {len(pairs)} pairs of arms"
        open_questions.append(f"{of_pairs} have no values of {stated.metric}")
    if any(min(c.difference.n, c.difference.n_second) == 1 for c in comparisons):
        open_questions.append("one seed has no interval, so nothing is resolved")
    parts = [_judge_pair(stated, c) for c in comparisons]
    verdict = "not resolved" if open_questions else combine_verdicts(parts)
    reasons = dict.fromkeys(c.why_unpaired for c in comparisons if c.why_unpaired)
    remarks = [f"not paired, since {reason}" for reason in reasons]
    dropped = max((c.dropped for c in comparisons), default=0)
    if dropped:
        remarks.append(f"{format_count(dropped, 'seed')} left out that not all arms have")
    return Finding(name, stated.claim, verdict, parts, "; ".join([*open_questions, *remarks]))


def _compare(
    stated: StatedFinding,
    pairs: Sequence[ArmNames],
    arms: Arms,
    metrics: pd.DataFrame,
    ended_early: Collection[tuple[str, int]],
) -> list[Comparison]:
    comparisons = compare_arms(
        metrics,
        [stated.metric],
        stated.select,
        pairs,
        why_unpaired_within({arm: arms[arm] for arm in itertools.chain(*pairs)}),
        ended_early,
        {name: arm.training.selects_by or DEFAULT_MONITOR for name, arm in arms.items()},
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
        raise UserError(f"the run has no {what}; its arms are {', '.join(arms)}")
    return selected


def _describe_values(selector: ArmSelector) -> str:
    assert isinstance(selector, dict)
    values = flatten(selector).items()
    return " and ".join(f"{key} = {format_value(value)}" for key, value in values)


def _judge_pair(stated: StatedFinding, c: Comparison) -> ClaimPart:
    interval = c.difference.interval
    if interval is None:
        interval_text = "in each seed, no spread" if c.difference.is_flat else "no interval"
    else:
        interval_text = f"95 % interval {format_interval(interval)}"
    difference = format_number(c.difference.mean, sign=True)
    numbers = f"{difference} ({c.metric}), {interval_text}, n = {c.difference.n}"
    better = 1 if more_is_better(c.metric) else -1
    if stated.within is not None:
        what = f"{c.second} is within {format_number(stated.within)} of {c.first}"
    else:
        beyond = f" by more than {format_number(stated.margin)}" if stated.margin else ""
        what = f"{c.second} is {'higher' if better > 0 else 'lower'} than {c.first}{beyond}"
    if interval is None:
        return ClaimPart(what, "not resolved", numbers)
    low, high = interval.low, interval.high
    if stated.within is None:
        return ClaimPart(what, judge_interval(low, high, better, better * stated.margin), numbers)
    return ClaimPart(what, _verdict_same(stated.within, low, high), numbers)


def _verdict_same(within: float, low: float, high: float) -> Verdict:
    if -within < low and high < within:
        return "supported"
    return "contradicted" if low > within or high < -within else "not resolved"
