"""Which epoch of an arm and seed counts: the last, the best on the test set, or by validation."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import pandas as pd

from rkkd_cli.config.monitors import MONITORS
from rkkd_cli.config.tasks import TaskRecords, task_of
from rkkd_cli.errors import UserError, unknown_name

DIVERGED_FROM = 1e100  # squares of such values overflow; only a term that diverged gets there
NO_MONITORS: Mapping[str, str] = {}


class EpochSelection(NamedTuple):
    """Which epoch's ``metric``, a column of metrics.csv, counts.

    ``column`` has it in grid.csv.
    """

    name: str
    column: str
    description: str
    metric: str


def selection_of(name: str, task: TaskRecords) -> EpochSelection:
    """Return a selection: ``last``, ``best`` or ``val``. Raises UserError for any other."""
    choices = {
        "last": (f"last_{task.main}", "last epoch"),
        "best": (f"best_{task.main}", "best epoch on the test images, which flatters"),
        "val": (f"val_selected_{task.main}", f"epoch with the best validation {task.main_name}"),
    }
    if name not in choices:
        raise unknown_name("selection", name, choices)
    return EpochSelection(name, *choices[name], metric=task.main_column)


def check_selection(metrics: pd.DataFrame, select: str) -> None:
    """Raise UserError for an unknown selection, and for ``val`` without a validation split."""
    task = task_of(metrics.columns)
    selection_of(select, task)
    values = metrics.get(task.default_monitor)
    if select == "val" and (values is None or values.isna().all()):
        raise UserError(
            "there is no validation split to select by; run the experiment with --val-share 0.1"
        )


def select_rows(
    metrics: pd.DataFrame,
    select: str,
    ended_early: Collection[tuple[str, int]] = (),
    monitors: Mapping[str, str] = NO_MONITORS,
    best_by: str | None = None,
) -> pd.DataFrame:
    """Return the row of the selected epoch of each arm and seed, the earliest of equal ones.

    ``val`` selects by the arm's metric in ``monitors``, or by the task's main metric; ``best`` by
    that on the test images, or by another column, ``best_by``. Seeds that are behind the last epoch
    of their arm are left out, except the (arm, seed) in ``ended_early``, which stopped early and
    stand at their own last epoch.
    """
    task = task_of(metrics.columns)
    last_of_seed = metrics.groupby(["arm", "seed"], sort=False)["epoch"].transform("max")
    last_of_arm = metrics.groupby("arm", sort=False)["epoch"].transform("max")
    pairs = zip(metrics["arm"], metrics["seed"], strict=True)
    has_ended = pd.Series([pair in ended_early for pair in pairs], metrics.index, dtype=bool)
    rows = metrics[(last_of_seed == last_of_arm) | has_ended]
    selected = []
    for (arm, _), epochs in rows.groupby(["arm", "seed"], sort=False):
        monitor = monitors.get(str(arm), task.default_monitor)
        best = best_by or task.main_column
        column = {"last": "epoch", "best": best, "val": monitor}[select]
        values = epochs[column].dropna()
        if len(values):
            higher_is_better = MONITORS.get(column, True)
            selected.append(values.idxmax() if higher_is_better else values.idxmin())
    return rows.loc[selected]


def mask_diverged(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the values, with NaN for infinite and diverged ones."""
    return values.where(values.abs() < DIVERGED_FROM)
