"""The arms of runs as curves: their rows, and what legends call them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from rkkd_cli.analysis.stages import learning_rate_drops
from rkkd_cli.errors import printable


@dataclass(frozen=True)
class ArmCurve:
    """One arm's rows, over all its seeds, and what the legend calls it."""

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
    def deviations(self) -> pd.DataFrame:
        """The sample standard deviations."""
        return self.rows.groupby("epoch").std(ddof=1, numeric_only=True)

    @cached_property
    def drops(self) -> list[float]:
        """Where the learning rate fell: see :func:`learning_rate_drops`."""
        return learning_rate_drops(self.rows)

    @cached_property
    def ends(self) -> list[int]:
        """The epochs after which there are fewer seeds than before."""
        last = self.rows.groupby("seed")["epoch"].max()
        return sorted({int(epoch) for epoch in last if epoch < last.max()})


def arm_curves(runs: Sequence[tuple[str, pd.DataFrame]]) -> list[ArmCurve]:
    """Return one curve per arm of each (run name, metrics); the run is named if there are more."""
    curves = []
    for run, metrics in runs:
        for arm, rows in metrics.groupby("arm", sort=False):
            name = str(arm) if len(runs) == 1 else f"{run}: {arm}"
            label = f"{name} ({_seeds(rows)})"
            curves.append(ArmCurve(printable(label), rows))
    return curves


def _seeds(rows: pd.DataFrame) -> str:
    """Return how many seeds there are, and how many of them are left at the last epoch."""
    n, left = rows["seed"].nunique(), int((rows["epoch"] == rows["epoch"].max()).sum())
    return f"n = {n}" if left == n else f"n = {n}, at the end {left}"
