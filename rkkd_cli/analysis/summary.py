"""Each arm at its last epoch, or at a selected one: mean and standard deviation over seeds.

For a run in training: how far each arm is, and its metrics so far.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from rkkd_cli.analysis.selection import select_rows
from rkkd_cli.config.tasks import task_of
from rkkd_cli.records.manifest import Manifest


@dataclass(frozen=True)
class MeanStd:
    """Mean and sample standard deviation (n − 1) over n seeds; one seed has no deviation."""

    mean: float
    std: float | None
    n: int

    def text(self, digits: int) -> str:
        """Return ``mean ± std``, or the mean alone."""
        mean = f"{self.mean:.{digits}f}"
        return mean if self.std is None else f"{mean} ± {self.std:.{digits}f}"


@dataclass(frozen=True)
class ArmSummary:
    """One arm over ``n`` seeds; ``epochs`` has the epoch of each seed."""

    arm: str
    epochs: dict[int, int]
    n: int
    metrics: dict[str, MeanStd]

    @property
    def epoch(self) -> int:
        """The latest of the epochs."""
        return max(self.epochs.values())

    @property
    def epoch_text(self) -> str:
        """The epoch, or the earliest and the latest of them."""
        earliest = min(self.epochs.values())
        return str(self.epoch) if earliest == self.epoch else f"{earliest}–{self.epoch}"


class RunSummaries(NamedTuple):
    """The arms at their last epochs, and, by monitored metric, at the epochs that it selects."""

    last: list[ArmSummary]
    selected: dict[str, list[ArmSummary]]

    def as_json(self) -> dict[str, Any]:
        """Return them as plain objects; without monitors there is no ``selected``."""
        content: dict[str, Any] = {"summary": _summaries_json(self.last)}
        if self.selected:
            content["selected"] = {
                monitor: _summaries_json(arms) for monitor, arms in self.selected.items()
            }
        return content


def mean_std(values: pd.Series) -> MeanStd:
    """Return mean and sample standard deviation of one metric over seeds."""
    std = float(values.std(ddof=1))
    return MeanStd(float(values.mean()), None if math.isnan(std) else std, len(values))


def summarise_run(metrics: pd.DataFrame, manifest: Manifest) -> RunSummaries:
    """Return the summaries of a run."""
    ended_early = manifest.cells_ended_early
    selected: dict[str, list[ArmSummary]] = {}
    for arm in summarise_selected(metrics, manifest.monitors, ended_early):
        selected.setdefault(manifest.monitors[arm.arm], []).append(arm)
    return RunSummaries(summarise(metrics, ended_early), selected)


def summarise(
    metrics: pd.DataFrame, ended_early: Collection[tuple[str, int]] = ()
) -> list[ArmSummary]:
    """Return one summary per arm at its last epoch, in the order of the file.

    It covers the seeds that have reached this epoch, and the (arm, seed) in ``ended_early``, which
    stopped early, at their own last epochs.
    """
    last = select_rows(metrics, "last", ended_early)
    return [_summary(str(arm), rows) for arm, rows in last.groupby("arm", sort=False)]


def summarise_selected(
    metrics: pd.DataFrame,
    monitors: Mapping[str, str],
    ended_early: Collection[tuple[str, int]] = (),
) -> list[ArmSummary]:
    """Return the arms that have a monitor, each seed at the first epoch with its best value."""
    monitored = metrics[metrics["arm"].isin(monitors)]
    selected = select_rows(monitored, "val", ended_early, monitors)
    return [_summary(str(arm), rows) for arm, rows in selected.groupby("arm", sort=False)]


def _summary(arm: str, rows: pd.DataFrame) -> ArmSummary:
    task = task_of(rows.columns)
    averaged = task.ema_column("test")
    has_averaged = averaged in rows and rows[averaged].notna().any()
    names = (*task.summary_columns, *([averaged] if has_averaged else []))
    metrics = {name: mean_std(rows[name]) for name in names}
    return ArmSummary(arm, _epoch_by_seed(rows), len(rows), metrics)


def last_epochs(metrics: pd.DataFrame) -> dict[tuple[str, int], int]:
    """Return the last epoch of each (arm, seed) that has rows."""
    last = metrics.groupby(["arm", "seed"], sort=False)["epoch"].max().reset_index()
    return {(str(a), int(s)): int(e) for a, s, e in last.itertuples(index=False)}


def _epoch_by_seed(rows: pd.DataFrame) -> dict[int, int]:
    return {int(s): int(e) for s, e in zip(rows["seed"], rows["epoch"], strict=True)}


def summary_table(summaries: Sequence[ArmSummary]) -> pd.DataFrame:
    """Return a row per arm: name, seeds, epoch, and each metric's mean and deviation."""
    rows = [
        {"arm": s.arm, "n": s.n, "epoch": s.epoch}
        | {name: v.mean for name, v in s.metrics.items()}
        | {f"{name}_std": v.std for name, v in s.metrics.items()}
        for s in summaries
    ]
    return pd.DataFrame(rows)


def _summaries_json(summaries: Sequence[ArmSummary]) -> list[dict[str, Any]]:
    return [
        {"arm": s.arm, "n": s.n, "epoch": s.epoch, "epochs": s.epochs}
        | {name: {"mean": v.mean, "std": v.std} for name, v in s.metrics.items()}
        for s in summaries
    ]


@dataclass(frozen=True)
class MetricProgress:
    """One metric of an arm: ``curve`` is the mean over seeds by epoch, ``now`` its last value."""

    now: float
    curve: list[float]


@dataclass(frozen=True)
class ArmProgress:
    """One arm: the newest epoch of each of its seeds, and its metrics until ``epoch``.

    All seeds that have begun and have not ended early have reached this epoch.
    """

    arm: str
    epochs: dict[int, int]
    epoch: int
    metrics: dict[str, MetricProgress]


def progress_by_arm(
    metrics: pd.DataFrame, ended_early: Collection[tuple[str, int]] = ()
) -> list[ArmProgress]:
    """Return the arms that have rows, in the order of the file."""
    shown, arms = ("rank", "kl", task_of(metrics.columns).main_column), []
    for name, rows in metrics.groupby("arm", sort=False):
        arm, newest = str(name), rows.loc[rows.groupby("seed", sort=False)["epoch"].idxmax()]
        epochs = _epoch_by_seed(newest)
        training = [epoch for seed, epoch in epochs.items() if (arm, seed) not in ended_early]
        common = min(training or epochs.values())
        means = rows[rows["epoch"] <= common].groupby("epoch")
        curves = {metric: means[metric].mean().tolist() for metric in shown}
        progress = {metric: MetricProgress(curve[-1], curve) for metric, curve in curves.items()}
        arms.append(ArmProgress(arm, epochs, common, progress))
    return arms
