"""The curves of the arms of one claim, cut to the seeds and epochs that all of them have."""

from dataclasses import dataclass

import pandas as pd

from rkkd_cli.analysis.numbers import format_count
from rkkd_cli.analysis.selection import mask_diverged
from rkkd_cli.analysis.stages import ScheduleStage, schedule_stages
from rkkd_cli.analysis.statistics import MIN_SEEDS
from rkkd_cli.config.experiment import Experiment


@dataclass(frozen=True)
class AlignedCurves:
    """The rows of ``arms`` up to the common epoch ``last``, of the seeds with all these epochs.

    ``planned`` is the last epoch of the experiment; ``left_out`` counts its other seeds, also
    those that have no rows.
    """

    arms: tuple[str, ...]
    rows: pd.DataFrame
    last: int
    planned: int
    left_out: int

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return int(self.rows["seed"].nunique())

    def by_seed(self, arm: str, column: str) -> pd.DataFrame:
        """Return an arm's values, one row per epoch and one column per seed; NaN where missing."""
        rows = self.rows[self.rows["arm"] == arm]
        return rows.assign(**{column: mask_diverged(rows[column])}).pivot(
            index="epoch", columns="seed", values=column
        )

    def gap(self, column: str) -> pd.DataFrame:
        """Return treated − control: the second arm minus the first."""
        return self.by_seed(self.arms[1], column) - self.by_seed(self.arms[0], column)

    def has(self, column: str) -> bool:
        """Whether every arm has values in this column."""
        if column not in self.rows:
            return False
        return all(rows[column].notna().any() for _, rows in self.rows.groupby("arm"))

    @property
    def stages(self) -> list[ScheduleStage]:
        """The stages of the learning-rate schedule."""
        return schedule_stages(self.rows[self.rows["arm"] == self.arms[0]], self.last)

    @property
    def early(self) -> ScheduleStage:
        """The epochs before the first drop of the learning rate; without drops the first third."""
        stages = self.stages
        return stages[0] if len(stages) > 1 else ScheduleStage(1, max(1, self.last // 3))

    @property
    def limits(self) -> list[str]:
        """Sentences on what these curves lack of the whole run."""
        limits = []
        if not self.seeds:
            limits.append(f"no seed has rows of {' and '.join(self.arms)} at the same epochs")
        elif self.left_out:
            seeds = format_count(self.left_out, "seed")
            limits.append(f"{seeds} left out, without every epoch up to {self.last} in all arms")
        if self.last < self.planned:
            limits.append(f"the arms have {self.last} of {self.planned} epochs in common")
        if 0 < self.seeds < MIN_SEEDS:
            limits.append(f"{format_count(self.seeds, 'seed')}, and a verdict takes {MIN_SEEDS}")
        return limits


def align_curves(
    metrics: pd.DataFrame, arms: tuple[str, ...], experiment: Experiment
) -> AlignedCurves:
    """Return the rows of the seeds and epochs that all the arms have.

    ``experiment`` says which they should have.
    """
    of_arms = metrics[metrics["arm"].isin(arms)]
    reached = of_arms.groupby("arm")["epoch"].max()
    last = int(reached.min()) if set(reached.index) == set(arms) else 0
    rows = of_arms[of_arms["epoch"] <= last]
    counts = rows.groupby("seed").size()
    complete = counts.index[counts == last * len(arms)] if last else counts.index[:0]
    left_out = len({*of_arms["seed"], *experiment.seeds} - {*complete})
    complete_rows = rows[rows["seed"].isin(complete)]
    return AlignedCurves(arms, complete_rows, last, experiment.training.epochs, left_out)
