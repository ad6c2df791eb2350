"""Which epoch of an arm and seed counts: the last, the best on the test set, or by validation."""

from typing import Any

import pandas as pd

from rkkd_cli.analysis.grid import SELECTIONS
from rkkd_cli.errors import UserError, unknown_name

HUGE = 1e100  # beyond it squares overflow; only a term that has diverged gets there
SELECTING = {"best": "test_acc", "val": "val_acc"}


def check_selection(metrics: pd.DataFrame, select: str) -> None:
    """Raise UserError for an unknown selection, and for ``val`` without a validation split."""
    if select not in SELECTIONS:
        raise unknown_name("selection", select, SELECTIONS)
    column = SELECTING.get(select)
    if column and (column not in metrics or metrics[column].isna().all()):
        raise UserError(
            "there is no validation split to select by; run the experiment with --val-share 0.1"
        )


def selected(metrics: pd.DataFrame, select: str) -> pd.DataFrame:
    """Return the row that counts of each arm and seed; of equal ones the earliest.

    Seeds that have not reached the last epoch that their arm has reached are left out.
    """
    reached = metrics.groupby(["arm", "seed"], sort=False)["epoch"].transform("max")
    furthest = metrics.groupby("arm", sort=False)["epoch"].transform("max")
    rows = metrics[reached == furthest]
    column = SELECTING.get(select, "epoch")
    rows = rows[rows[column].notna()]
    places = rows.groupby(["arm", "seed"], sort=False)[column].idxmax()
    return rows.loc[places]


def measurable(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the values, without infinite and huge ones."""
    return values.where(values.abs() < HUGE)
