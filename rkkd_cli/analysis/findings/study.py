"""The study's claims, checked on every control arm and every pair of a run."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Self

import pandas as pd

from rkkd_cli.analysis.findings import claims
from rkkd_cli.analysis.findings.arms import ArmPair, control_arms, rank_pairs
from rkkd_cli.analysis.findings.curves import AlignedCurves, align_curves
from rkkd_cli.analysis.findings.verdict import ClaimPart, Finding, not_judged
from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import Experiment

CONTROL, TREATED = "the arm that logs it only", "the arm that backpropagates it"


class StudyClaim(NamedTuple):
    """A claim, the function that measures its parts, and the columns that this needs."""

    name: str
    claim: str
    measure: Callable[[AlignedCurves], list[ClaimPart]]
    columns: Sequence[str] = ()

    def about(self, metric: str) -> Self:
        """Return the claim with the main metric of a task in its words."""
        name, claim = (text.replace("{metric}", metric) for text in (self.name, self.claim))
        return self._replace(name=name, claim=claim)


CLAIMS_ABOUT_A_CONTROL = (
    StudyClaim("consistent direction", claims.DIRECTION_CLAIM, claims.direction),
    StudyClaim(
        "gradient balance", claims.GRADIENTS_CLAIM, claims.gradients, claims.GRADIENT_COLUMNS
    ),
)
CLAIMS_ABOUT_A_PAIR = (
    StudyClaim("ranking optimised faster and further", claims.RANKING_CLAIM, claims.ranking),
    StudyClaim("helps KL", claims.DIVERGENCE_CLAIM, claims.divergence),
    StudyClaim("better {metric} at all stages", claims.ACCURACY_CLAIM, claims.accuracy),
)
STUDY_CLAIMS = (CLAIMS_ABOUT_A_CONTROL[0], *CLAIMS_ABOUT_A_PAIR, CLAIMS_ABOUT_A_CONTROL[1])
MAX_ARMS = 12
NO_CONTROL = "no arm distils with rank.grad = false"
NO_PAIR = "no arm with rank.grad = true has a control: the same arm with rank.grad = false"


def measure_study_claims(
    experiment: Experiment, metrics: pd.DataFrame, arms: Collection[str] | None = None
) -> list[Finding]:
    """Return the five claims, each once for every control arm or pair that it is about.

    With ``arms`` only those about one of these. Their verdicts come from
    :func:`rkkd_cli.analysis.findings.verdict.judge_together`.
    """
    study = [claim.about(experiment.task_records.main_name) for claim in STUDY_CLAIMS]
    controls, pairs = control_arms(experiment), rank_pairs(experiment)
    if arms is not None:
        controls = [control for control in controls if control.name in arms]
        pairs = [pair for pair in pairs if {*pair.names} & {*arms}]
    elif len(controls) > MAX_ARMS or len(pairs) > MAX_ARMS:
        count = max(len(controls), len(pairs))
        note = f"{count} arms are too many to judge one by one; name some of them"
        return [_not_judged(claim, note) for claim in study]
    findings = []
    for claim in study:
        if claim in CLAIMS_ABOUT_A_CONTROL:
            measured = [_measure_control(claim, arm, metrics) for arm in controls]
            findings += measured or [_not_judged(claim, NO_CONTROL)]
        else:
            measured = [_measure_pair(claim, pair, metrics) for pair in pairs]
            findings += measured or [_not_judged(claim, NO_PAIR)]
    return findings


def _not_judged(claim: StudyClaim, note: str) -> Finding:
    sentence = claim.claim.format(control=CONTROL, treated=TREATED)
    return not_judged(claim.name, sentence, note)


def _measure_control(claim: StudyClaim, arm: Arm, metrics: pd.DataFrame) -> Finding:
    curves = align_curves(metrics, (arm.name,), arm.experiment)
    return _measure(claim, claim.claim.format(control=arm.name), curves)


def _measure_pair(claim: StudyClaim, pair: ArmPair, metrics: pd.DataFrame) -> Finding:
    curves = align_curves(metrics, pair.names, pair.control.experiment)
    sentence = claim.claim.format(control=pair.control.name, treated=pair.treated.name)
    if claim.measure is claims.ranking and not pair.rank_is_shared:
        claim = claim._replace(measure=lambda curves: claims.ranking(curves, rank_is_shared=False))
        return _measure(claim, sentence, curves, claims.OWN_SCALES)
    return _measure(claim, sentence, curves)


def _measure(claim: StudyClaim, sentence: str, curves: AlignedCurves, *remarks: str) -> Finding:
    """Measure a claim on curves. A run short of its last epoch is not judged yet."""
    missing = [column for column in claim.columns if not curves.has(column)]
    limits = [*remarks, *curves.limits]
    if curves.seeds and missing:
        limits.append(f"the run has no values of {' and '.join(missing)}")
    parts = claim.measure(curves) if curves.seeds and not missing else []
    note = "; ".join(limits)
    if not parts or curves.last < curves.planned:
        return not_judged(claim.name, sentence, note, parts)
    return Finding(claim.name, sentence, "not resolved", parts, note)
