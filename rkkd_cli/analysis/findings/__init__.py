"""The claims of the ablation study as rules that any run can be held against."""

from collections.abc import Collection

import pandas as pd

from rkkd_cli.analysis.findings.stated import stated_findings
from rkkd_cli.analysis.findings.study import study_findings
from rkkd_cli.analysis.findings.verdict import Finding, Part, Verdict, combined
from rkkd_cli.config.experiment import Experiment

__all__ = ["Finding", "Part", "Verdict", "combined", "findings_of"]


def findings_of(
    experiment: Experiment,
    metrics: pd.DataFrame,
    arms: Collection[str] | None = None,
    ended_early: Collection[tuple[str, int]] = (),
) -> list[Finding]:
    """Return every claim of the study, and those the experiment states, held against its rows.

    Each verdict rests on 95 % t intervals over seeds of one number a seed. A claim is supported
    only if all its parts are, contradicted if any part is, else not resolved; so it is with one
    seed, which has no interval, and with what the run lacks, which the note says.

    Args:
        experiment: as recorded with the run.
        metrics: the rows of metrics.csv; terms raw, KL in nats × T², accuracies in percent.
        arms: only what is about one of these; default: all, if they are no more than a dozen.
        ended_early: the (arm, seed) whose last epoch is their own.
    """
    stated = stated_findings(experiment, metrics, ended_early)
    return [*study_findings(experiment, metrics, arms), *stated]
