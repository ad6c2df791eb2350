"""Each arm at its last epoch, or at a chosen one: mean, spread over seeds, and how many seeds.

And, while a run trains: how far its arms are, and what they are at.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from rkkd_cli.analysis.selection import selected

SUMMARY_METRICS = ("test_acc", "test_kl", "test_rank", "test_kendall_tau", "kl", "rank")
WATCHED = ("rank", "kl", "test_acc")


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
    """One arm over the ``n`` seeds that reached its end; ``epochs`` has the epoch of each seed."""

    arm: str
    epochs: dict[int, int]
    n: int
    metrics: dict[str, Spread]

    @property
    def epoch(self) -> int:
        """The latest of the epochs."""
        return max(self.epochs.values())

    @property
    def epoch_text(self) -> str:
        """The epoch, or the first and the last of them."""
        earliest = min(self.epochs.values())
        return str(self.epoch) if earliest == self.epoch else f"{earliest}–{self.epoch}"


def spread(values: pd.Series) -> Spread:
    """Return mean and sample standard deviation of one metric over seeds."""
    deviation = float(values.std(ddof=1))
    return Spread(float(values.mean()), None if math.isnan(deviation) else deviation, len(values))


def summarise(
    metrics: pd.DataFrame, ended_early: Collection[tuple[str, int]] = ()
) -> list[ArmSummary]:
    """Return one summary per arm, in the order of the file.

    The seeds are those that have reached the arm's last epoch, or are among the (arm, seed) that
    ``ended_early``: these stand at the last epoch that they have.
    """
    last = selected(metrics, "last", ended_early)
    return [_summary(str(arm), rows) for arm, rows in last.groupby("arm", sort=False)]


def summarise_selected(
    metrics: pd.DataFrame,
    monitors: Mapping[str, str],
    ended_early: Collection[tuple[str, int]] = (),
) -> list[ArmSummary]:
    """Return the arms that have a monitor, each seed at the first epoch with its best value."""
    monitored = metrics[metrics["arm"].isin(monitors)]
    rows = selected(monitored, "val", ended_early, monitors)
    return [_summary(str(arm), part) for arm, part in rows.groupby("arm", sort=False)]


def _summary(arm: str, rows: pd.DataFrame) -> ArmSummary:
    epochs = {int(s): int(e) for s, e in zip(rows["seed"], rows["epoch"], strict=True)}
    spreads = {name: spread(rows[name]) for name in SUMMARY_METRICS}
    return ArmSummary(arm, epochs, len(rows), spreads)


@dataclass(frozen=True)
class Watched:
    """One metric of an arm: its mean by epoch over the seeds, and over each seed's newest row."""

    now: float
    curve: list[float]


@dataclass(frozen=True)
class ArmProgress:
    """One arm: the newest epoch of each of its seeds, and its metrics."""

    arm: str
    epochs: dict[int, int]
    metrics: dict[str, Watched]


def progress_of(metrics: pd.DataFrame) -> list[ArmProgress]:
    """Return the arms that have rows, in the order of the file."""
    return [_progress(str(arm), rows) for arm, rows in metrics.groupby("arm", sort=False)]


def _progress(arm: str, rows: pd.DataFrame) -> ArmProgress:
    newest = rows.loc[rows.groupby("seed", sort=False)["epoch"].idxmax()]
    epochs = {int(s): int(e) for s, e in zip(newest["seed"], newest["epoch"], strict=True)}
    by_epoch = rows.groupby("epoch")
    watched = {
        name: Watched(float(newest[name].mean()), by_epoch[name].mean().tolist())
        for name in WATCHED
    }
    return ArmProgress(arm, epochs, watched)
