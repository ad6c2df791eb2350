"""The record of a run: what its files say."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.tasks import TaskRecords
from rkkd_cli.errors import UserError
from rkkd_cli.records.manifest import Manifest


@dataclass(frozen=True)
class RunRecord:
    """A run's name, experiment, manifest, rows and status (see :meth:`RunDirectory.status`)."""

    name: str
    experiment: Experiment
    manifest: Manifest
    metrics: pd.DataFrame
    status: str

    @property
    def arms(self) -> list[str]:
        """The arms that have rows, in the order of the file."""
        return [str(arm) for arm in self.metrics["arm"].unique()]

    def ended_early(self, prefix: str = "") -> set[tuple[str, int]]:
        """Return the (arm, seed) that stopped early, the arms after ``prefix``."""
        return {(prefix + arm, seed) for arm, seed in self.manifest.cells_ended_early}

    def monitors(self, prefix: str = "") -> dict[str, str]:
        """Return the metric that selects an arm's epoch, the arms after ``prefix``."""
        return {prefix + arm: metric for arm, metric in self.manifest.monitors.items()}

    @cached_property
    def by_arm(self) -> dict[str, Experiment]:
        """The experiment of each arm."""
        return {arm.name: arm.experiment for arm in self.experiment.resolved_arms}


def common_task(runs: Sequence[RunRecord]) -> TaskRecords:
    """Return the task of the runs. Raises UserError if they have several, with no metric alike."""
    first = runs[0]
    other = next((run for run in runs if run.experiment.task != first.experiment.task), None)
    if other is not None:
        raise UserError(
            f"runs {first.name} and {other.name} have no metric in common: their tasks are "
            f"{first.experiment.task} and {other.experiment.task}"
        )
    return first.experiment.task_records
