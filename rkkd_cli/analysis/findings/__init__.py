"""The claims of the ablation study, as rules that can be checked on any run."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from rkkd_cli.analysis.findings.stated import measure_stated_findings
from rkkd_cli.analysis.findings.study import measure_study_claims
from rkkd_cli.analysis.findings.verdict import ClaimPart, Finding, Verdict, judge_together
from rkkd_cli.config.experiment import Experiment

__all__ = ["ClaimPart", "Finding", "Verdict", "judge_findings"]


def judge_findings(
    experiment: Experiment,
    metrics: pd.DataFrame,
    arms: Collection[str] | None = None,
    ended_early: Collection[tuple[str, int]] = (),
    teachers: Sequence[Mapping[str, Any]] = (),
) -> list[Finding]:
    """Return a verdict on every claim of the study, and on those that the experiment states.

    Each verdict rests on t tests over seeds, with one number per seed, corrected for the number of
    claims (Holm). A claim is supported if all its parts are so, contradicted if any is not, else
    not resolved. It takes three seeds. A claim that the run could not test is not judged, and its
    note says what the run lacks.

    Args:
        experiment: as recorded with the run.
        metrics: the rows of metrics.csv; terms raw, KL in nats × T², accuracies in percent.
        arms: only the study's claims about one of these; default: all, if they are at most 12.
        ended_early: the (arm, seed) that stopped early; their own last epoch counts.
        teachers: the manifest's facts of the run's teachers.
    """
    stated = measure_stated_findings(experiment, metrics, ended_early, teachers)
    return judge_together([*measure_study_claims(experiment, metrics, arms), *stated])
