"""The claims of the ablation study as rules that any run can be held against."""

import pandas as pd

from rkkd_cli.analysis.findings.verdict import Finding, Part, Verdict, combined
from rkkd_cli.config.experiment import Experiment

__all__ = ["Finding", "Part", "Verdict", "combined", "findings_of"]


def findings_of(experiment: Experiment, metrics: pd.DataFrame) -> list[Finding]:
    """Return every claim of the study, and those the experiment states, held against its rows."""
    return []
