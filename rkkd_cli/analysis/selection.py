"""Which epoch of an arm and seed counts: the last, the best on the test set, or by validation."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from rkkd_cli.config.monitors import DEFAULT_MONITOR, MONITORS
from rkkd_cli.errors import UserError, unknown_name

HUGE = 1e100  # beyond it squares overflow; only a term that has diverged gets there
NO_MONITORS: Mapping[str, str] = {}


class Selection(NamedTuple):
    """Which epoch's test accuracy counts: its column in grid.csv, and how it is told."""

    column: str
    told: str


SELECTIONS = {
    "last": Selection("last_acc", "last epoch"),
    "best": Selection("best_acc", "best epoch on the test images, which flatters"),
    "val": Selection("val_selected_acc", "epoch with the best validation accuracy"),
}


def check_selection(metrics: pd.DataFrame, select: str) -> None:
    """Raise UserError for an unknown selection, and for ``val`` without a validation split."""
    if select not in SELECTIONS:
        raise unknown_name("selection", select, SELECTIONS)
    held_out = metrics.get(DEFAULT_MONITOR)
    if select == "val" and (held_out is None or held_out.isna().all()):
        raise UserError(
            "there is no validation split to select by; run the experiment with --val-share 0.1"
        )


def selected(
    metrics: pd.DataFrame,
    select: str,
    ended_early: Collection[tuple[str, int]] = (),
    monitors: Mapping[str, str] = NO_MONITORS,
) -> pd.DataFrame:
    """Return the row that counts of each arm and seed; of equal ones the earliest.

    ``val`` goes by the arm's metric among ``monitors``, or by the validation accuracy. Seeds that
    have not reached the last epoch that their arm has reached are left out, but for the
    (arm, seed) that ``ended_early``: their last epoch is the one that they have.
    """
    reached = metrics.groupby(["arm", "seed"], sort=False)["epoch"].transform("max")
    furthest = metrics.groupby("arm", sort=False)["epoch"].transform("max")
    cells = zip(metrics["arm"], metrics["seed"], strict=True)
    own_end = pd.Series([cell in ended_early for cell in cells], index=metrics.index, dtype=bool)
    rows = metrics[(reached == furthest) | own_end]
    return rows.loc[[*_places(rows, select, monitors)]]


def _places(rows: pd.DataFrame, select: str, monitors: Mapping[str, str]) -> Iterator[Any]:
    """Yield the label of the row that counts of each arm and seed that has a value."""
    for (arm, _), part in rows.groupby(["arm", "seed"], sort=False):
        monitor = monitors.get(str(arm), DEFAULT_MONITOR)
        column = {"last": "epoch", "best": "test_acc", "val": monitor}[select]
        values = part[column].dropna()
        if len(values):
            yield values.idxmax() if MONITORS.get(column, True) else values.idxmin()


def measurable(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the values, without infinite and huge ones."""
    return values.where(values.abs() < HUGE)
