"""Which epoch of an arm and seed counts: the last, the best on the test set, or by validation."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import pandas as pd

from rkkd_cli.config.monitors import DEFAULT_MONITOR, MONITORS
from rkkd_cli.errors import UserError, unknown_name

DIVERGED_FROM = 1e100  # squares of such values overflow; only a term that diverged gets there
NO_MONITORS: Mapping[str, str] = {}


class EpochSelection(NamedTuple):
    """Which epoch's test accuracy counts: its column in grid.csv, and a description."""

    column: str
    description: str


SELECTIONS = {
    "last": EpochSelection("last_acc", "last epoch"),
    "best": EpochSelection("best_acc", "best epoch on the test images, which flatters"),
    "val": EpochSelection("val_selected_acc", "epoch with the best validation accuracy"),
}


def check_selection(metrics: pd.DataFrame, select: str) -> None:
    """Raise UserError for an unknown selection, and for ``val`` without a validation split."""
    if select not in SELECTIONS:
        raise unknown_name("selection", select, SELECTIONS)
    val_acc = metrics.get(DEFAULT_MONITOR)
    if select == "val" and (val_acc is None or val_acc.isna().all()):
        raise UserError(
            "there is no validation split to select by; run the experiment with --val-share 0.1"
        )


def select_rows(
    metrics: pd.DataFrame,
    select: str,
    ended_early: Collection[tuple[str, int]] = (),
    monitors: Mapping[str, str] = NO_MONITORS,
) -> pd.DataFrame:
    """Return the row of the selected epoch of each arm and seed, the earliest of equal ones.

    ``val`` selects by the arm's metric in ``monitors``, or by the validation accuracy. Seeds that
    are behind the last epoch of their arm are left out, except the (arm, seed) in ``ended_early``,
    which stopped early and stand at their own last epoch.
    """
    last_of_seed = metrics.groupby(["arm", "seed"], sort=False)["epoch"].transform("max")
    last_of_arm = metrics.groupby("arm", sort=False)["epoch"].transform("max")
    pairs = zip(metrics["arm"], metrics["seed"], strict=True)
    has_ended = pd.Series([pair in ended_early for pair in pairs], metrics.index, dtype=bool)
    rows = metrics[(last_of_seed == last_of_arm) | has_ended]
    selected = []
    for (arm, _), epochs in rows.groupby(["arm", "seed"], sort=False):
        monitor = monitors.get(str(arm), DEFAULT_MONITOR)
        column = {"last": "epoch", "best": "test_acc", "val": monitor}[select]
        values = epochs[column].dropna()
        if len(values):
            higher_is_better = MONITORS.get(column, True)
            selected.append(values.idxmax() if higher_is_better else values.idxmin())
    return rows.loc[selected]


def mask_diverged(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the values, with NaN for infinite and diverged ones."""
    return values.where(values.abs() < DIVERGED_FROM)
