"""How far the arms of a run are, and what they are at."""

from dataclasses import dataclass

import pandas as pd

WATCHED = ("rank", "kl", "test_acc")


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
