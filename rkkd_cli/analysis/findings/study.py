"""The study's claims about every control arm and every pair, held against a run."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import pandas as pd

from rkkd_cli.analysis.findings import claims
from rkkd_cli.analysis.findings.arms import ArmPair, controls, rank_pairs
from rkkd_cli.analysis.findings.curves import Curves, curves_of
from rkkd_cli.analysis.findings.verdict import Finding, Part, combined
from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import Experiment

CONTROL, TREATED = "the arm that logs it only", "the arm that backpropagates it"
Parts = Callable[[Curves], list[Part]]


class Rule(NamedTuple):
    """A claim, and how its parts are measured on the curves of the arms it is about."""

    name: str
    claim: str
    parts: Parts
    needs: Sequence[str] = ()


OF_A_CONTROL = (
    Rule("consistent direction", claims.DIRECTION_CLAIM, claims.direction),
    Rule("gradient balance", claims.GRADIENTS_CLAIM, claims.gradients, claims.GRADIENT_COLUMNS),
)
OF_A_PAIR = (
    Rule("ranking optimised faster and further", claims.RANKING_CLAIM, claims.ranking),
    Rule("helps KL", claims.DIVERGENCE_CLAIM, claims.divergence),
    Rule("better accuracy at all stages", claims.ACCURACY_CLAIM, claims.accuracy),
)
ALL = (OF_A_CONTROL[0], *OF_A_PAIR, OF_A_CONTROL[1])
MOST_ARMS = 12


def study_findings(
    experiment: Experiment, metrics: pd.DataFrame, arms: Collection[str] | None = None
) -> list[Finding]:
    """Return the five claims, each once for every control or pair that it is about.

    With ``arms`` only those of controls and pairs with one of them.
    """
    logged, pairs = controls(experiment), rank_pairs(experiment)
    if arms is not None:
        logged = [one for one in logged if one.name in arms]
        pairs = [pair for pair in pairs if {*pair.names} & {*arms}]
    elif len(logged) > MOST_ARMS or len(pairs) > MOST_ARMS:
        why = f"{max(len(logged), len(pairs))} arms are too many to tell of; name some of them"
        return [_without(rule, why) for rule in ALL]
    found = [
        *(_of_control(rule, arm, metrics) for rule in OF_A_CONTROL for arm in logged),
        *(_of_pair(rule, pair, metrics) for pair in pairs for rule in OF_A_PAIR),
    ]
    there = {one.name for one in found}
    found += [_without(rule, _why_none(rule)) for rule in ALL if rule.name not in there]
    order = [rule.name for rule in ALL]
    return sorted(found, key=lambda one: order.index(one.name))


def _why_none(rule: Rule) -> str:
    if rule in OF_A_CONTROL:
        return "no arm distils with rank.grad = false"
    return "no arm with rank.grad = true has a control: the same arm with rank.grad = false"


def _without(rule: Rule, note: str) -> Finding:
    claim = rule.claim.format(control=CONTROL, treated=TREATED)
    return Finding(rule.name, claim, "not resolved", [], note)


def _of_control(rule: Rule, arm: Arm, metrics: pd.DataFrame) -> Finding:
    curves = curves_of(metrics, (arm.name,), arm.experiment.training.epochs)
    return held(rule.name, rule.claim.format(control=arm.name), curves, rule.parts, rule.needs)


def _of_pair(rule: Rule, pair: ArmPair, metrics: pd.DataFrame) -> Finding:
    curves = curves_of(metrics, pair.names, pair.control.experiment.training.epochs)
    claim = rule.claim.format(control=pair.control.name, treated=pair.treated.name)
    if rule.parts is claims.ranking and not pair.rank_is_shared:
        return held(
            rule.name, claim, curves, lambda c: claims.ranking(c, False), (), (claims.OWN_SCALES,)
        )
    return held(rule.name, claim, curves, rule.parts, rule.needs)


def held(
    name: str,
    claim: str,
    curves: Curves,
    parts: Parts,
    needs: Sequence[str] = (),
    remarks: Sequence[str] = (),
) -> Finding:
    """Hold a claim against curves; what they lack stands in the note.

    A run that has not reached its end resolves nothing yet.
    """
    lacking = [column for column in needs if not curves.has(column)]
    limits = [*remarks, *curves.limits]
    if curves.seeds and lacking:
        limits.append(f"the run has no values of {' and '.join(lacking)}")
    measured = parts(curves) if curves.seeds and not lacking else []
    verdict = combined(measured)
    if curves.last < curves.planned:
        verdict = "not resolved"
    return Finding(name, claim, verdict, measured, "; ".join(limits))
