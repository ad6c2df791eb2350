"""The arms of runs as curves: their rows, and their names in legends."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from rkkd_cli.analysis.stages import learning_rate_drops
from rkkd_cli.config.tasks import task_of
from rkkd_cli.errors import printable


@dataclass(frozen=True, eq=False)
class ArmCurve:
    """One arm's rows, over all its seeds, and its name in the legend."""

    label: str
    rows: pd.DataFrame

    @property
    def arm(self) -> str:
        """The arm's name, without that of its run."""
        return str(self.rows["arm"].iloc[0])

    @cached_property
    def means(self) -> pd.DataFrame:
        """The mean over seeds of every column of numbers, by epoch."""
        return self.rows.groupby("epoch").mean(numeric_only=True)

    @cached_property
    def stds(self) -> pd.DataFrame:
        """The sample standard deviations, by epoch."""
        return self.rows.groupby("epoch").std(ddof=1, numeric_only=True)

    @property
    def last(self) -> int:
        """The last epoch that any seed has."""
        return int(self.means.index.max())

    @cached_property
    def end_level(self) -> float:
        """The main metric at the end of each seed, the mean over seeds, in percent."""
        main = task_of(self.rows.columns).main_column
        return float(self.rows.groupby("seed")[main].last().mean())

    @cached_property
    def drops(self) -> list[float]:
        """Where the learning rate drops: see :func:`learning_rate_drops`."""
        return learning_rate_drops(self.rows)

    @cached_property
    def ends(self) -> list[int]:
        """The epochs after which there are fewer seeds than before."""
        last = self.rows.groupby("seed")["epoch"].max()
        return sorted({int(epoch) for epoch in last if epoch < last.max()})


def arm_curves(runs: Sequence[tuple[str, pd.DataFrame]]) -> list[ArmCurve]:
    """Return one curve per arm of each (run name, metrics); several runs are named."""
    curves = []
    for run, metrics in runs:
        for arm, rows in metrics.groupby("arm", sort=False):
            name = str(arm) if len(runs) == 1 else f"{run}: {arm}"
            curves.append(ArmCurve(printable(f"{name} ({seeds_text(rows)})"), rows))
    return curves


def seeds_text(rows: pd.DataFrame) -> str:
    """Return the number of seeds, and how many of them have the last epoch, if not all."""
    n, at_end = rows["seed"].nunique(), int((rows["epoch"] == rows["epoch"].max()).sum())
    return f"n = {n}" if at_end == n else f"n = {n}, at the end {at_end}"
