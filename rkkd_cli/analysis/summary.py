"""Each arm at its last epoch: mean, spread over seeds, and how many seeds."""

import math
from dataclasses import dataclass

import pandas as pd

SUMMARY_METRICS = ("test_acc", "test_kl", "test_rank", "test_kendall_tau", "kl", "rank")


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n − 1) over n seeds; None where there is one."""

    mean: float
    std: float | None
    n: int

    def text(self, digits: int) -> str:
        """Return ``mean ± spread``, or the mean alone."""
        mean = f"{self.mean:.{digits}f}"
        return mean if self.std is None else f"{mean} ± {self.std:.{digits}f}"


@dataclass(frozen=True)
class ArmSummary:
    """One arm at the last epoch that it has reached, over the ``n`` seeds that reached it."""

    arm: str
    epoch: int
    n: int
    metrics: dict[str, Spread]


def spread(values: pd.Series) -> Spread:
    """Return mean and sample standard deviation of one metric over seeds."""
    deviation = float(values.std(ddof=1))
    return Spread(float(values.mean()), None if math.isnan(deviation) else deviation, len(values))


def summarise(metrics: pd.DataFrame) -> list[ArmSummary]:
    """Return one summary per arm, in the order of the file."""
    summaries = []
    for arm, rows in metrics.groupby("arm", sort=False):
        epoch = int(rows["epoch"].max())
        last = rows[rows["epoch"] == epoch]
        spreads = {name: spread(last[name]) for name in SUMMARY_METRICS}
        summaries.append(ArmSummary(str(arm), epoch, len(last), spreads))
    return summaries
