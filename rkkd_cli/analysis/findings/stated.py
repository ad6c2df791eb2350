"""The findings that an experiment states itself, held against its rows."""

import itertools
from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from rkkd_cli.analysis.compare import Comparison, compare_arms
from rkkd_cli.analysis.findings.verdict import Finding, Part, Verdict, combined
from rkkd_cli.analysis.grid_tables import spelt
from rkkd_cli.analysis.numbers import counted, more_is_better, told, told_interval
from rkkd_cli.analysis.pairing import unpaired_within, with_caveats
from rkkd_cli.config.arms import resolve_arms
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import is_baseline
from rkkd_cli.config.monitors import DEFAULT_MONITOR
from rkkd_cli.config.overrides import flatten
from rkkd_cli.config.stated_findings import StatedFinding, Who, arms_meant
from rkkd_cli.errors import UserError

Pair = tuple[str, str]
Arms = Mapping[str, Experiment]


def stated_findings(
    experiment: Experiment, metrics: pd.DataFrame, ended_early: Collection[tuple[str, int]] = ()
) -> list[Finding]:
    """Return the experiment's own findings; what cannot be measured is not resolved, with why."""
    arms = {arm.name: arm.experiment for arm in resolve_arms(experiment)}
    stated = experiment.findings.items()
    return [_held(name, one, arms, metrics, ended_early) for name, one in stated]


def _held(
    name: str,
    stated: StatedFinding,
    arms: Arms,
    metrics: pd.DataFrame,
    ended_early: Collection[tuple[str, int]],
) -> Finding:
    try:
        pairs = _pairs(stated, arms)
        concerned = {arm: arms[arm] for arm in itertools.chain(*pairs)}
        unpaired = unpaired_within(concerned)
        monitors = {arm: one.training.selects_by or DEFAULT_MONITOR for arm, one in arms.items()}
        found = compare_arms(
            metrics, [stated.metric], stated.select, pairs, unpaired, ended_early, monitors
        )
    except UserError as error:
        return Finding(name, stated.claim, "not resolved", [], str(error))
    found = with_caveats(found, arms)
    notes = [*dict.fromkeys(one.caveat for one in found if one.caveat)]
    missing = len(pairs) - len(found)
    if missing:
        notes.append(f"{missing} of {len(pairs)} pairs of arms have no values of {stated.metric}")
    if any(min(one.difference.n, one.difference.n_other) == 1 for one in found):
        notes.append("one seed has no interval, so nothing is resolved")
    parts = [_part(stated, one) for one in found]
    verdict = "not resolved" if notes else combined(parts)
    remarks = dict.fromkeys(f"not paired, since {c.why_unpaired}" for c in found if c.why_unpaired)
    dropped = max((one.dropped for one in found), default=0)
    left_out = [f"{counted(dropped, 'seed')} left out that not all arms have"] if dropped else []
    return Finding(name, stated.claim, verdict, parts, "; ".join([*notes, *remarks, *left_out]))


def _pairs(stated: StatedFinding, arms: Arms) -> list[Pair]:
    """Return (worse, better) pairs, or those of arms that are alike. Raises UserError."""
    if stated.same is not None:
        return list(itertools.combinations(_there(stated.same, arms), 2))
    assert stated.better is not None
    assert stated.worse is not None
    better, worse = _there(stated.better, arms), _there(stated.worse, arms)
    if isinstance(stated.better, dict) and isinstance(stated.worse, dict):
        keys = {*flatten(stated.better), *flatten(stated.worse)}
        alike = [(one, other) for other in better for one in _controls(other, worse, keys, arms)]
        if alike:
            return alike
    return [(one, other) for one in worse for other in better if one != other]


def _controls(arm: str, among: Sequence[str], keys: set[str], arms: Arms) -> list[str]:
    """Return the arms that differ from ``arm`` in these keys only, else in their sections only."""
    sections = {key.partition(".")[0] for key in keys}
    differing = {one: _differing(arms[one], arms[arm]) for one in among if one != arm}
    exactly = [one for one, found in differing.items() if found <= keys]
    return exactly or [
        one
        for one, found in differing.items()
        if {key.partition(".")[0] for key in found} <= sections
    ]


def _differing(one: Experiment, other: Experiment) -> set[str]:
    before, after = flatten(one.model_dump()), flatten(other.model_dump())
    return {key for key in {*before, *after} if before.get(key) != after.get(key)}


def _there(who: Who, arms: Arms) -> Sequence[str]:
    """Return the arms that are meant; a baseline is meant by its name only. Raises UserError."""
    meant = arms_meant(who, {name: one for name, one in arms.items() if not is_baseline(name)})
    missing = [arm for arm in meant if arm not in arms]
    if missing or not meant:
        what = f"arm {missing[0]!r}" if missing else f"arm with {_told(who)}"
        raise UserError(f"the run has no {what}; its arms are {', '.join(arms)}")
    return meant


def _told(who: Who) -> str:
    assert isinstance(who, dict)
    return " and ".join(f"{key} = {spelt(value)}" for key, value in flatten(who).items())


def _part(stated: StatedFinding, c: Comparison) -> Part:
    interval, unit = c.difference.interval, c.metric
    numbers = f"{told(c.difference.mean, sign=True)} ({unit})"
    if interval is None:
        why = "in each seed, no spread" if c.difference.is_flat else "no interval"
    else:
        why = f"95 % interval {told_interval(interval)}"
    numbers += f", {why}, n = {c.difference.n}"
    if stated.within is not None:
        what = f"{c.other} is within {told(stated.within)} of {c.one}"
        return Part(what, _alike(stated.within, c), numbers)
    word = "higher" if more_is_better(c.metric) else "lower"
    beyond = f" by more than {told(stated.margin)}" if stated.margin else ""
    return Part(f"{c.other} is {word} than {c.one}{beyond}", _ahead(stated, c), numbers)


def _alike(within: float, c: Comparison) -> Verdict:
    interval = c.difference.interval
    if interval is None:
        return "not resolved"
    if -within < interval.low and interval.high < within:
        return "supported"
    outside = interval.low > within or interval.high < -within
    return "contradicted" if outside else "not resolved"


def _ahead(stated: StatedFinding, c: Comparison) -> Verdict:
    interval = c.difference.interval
    if interval is None:
        return "not resolved"
    low, high = interval.low, interval.high
    if not more_is_better(c.metric):
        low, high = -high, -low
    if low > stated.margin:
        return "supported"
    return "contradicted" if high < stated.margin else "not resolved"
