"""``grid.csv``: one row per cell and seed, computed from metrics.csv."""

from typing import Any

import pandas as pd

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import cell_hash, varied_texts
from rkkd_cli.config.tasks import TaskRecords
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.metrics import read_exactly


def grid_frame(metrics: pd.DataFrame, experiment: Experiment, manifest: Manifest) -> pd.DataFrame:
    """Return one row per cell and seed: metrics in percent and the final raw terms.

    ``status`` is done, failed or pending. ``val_selected_acc`` (or of the task's other main metric)
    is that of the test images at the epoch with the best of the validation images, empty without a
    validation split.
    """
    task = experiment.task_records
    outcome, final = _outcome_columns(task), _final_columns(task)
    by_cell = dict(list(metrics.groupby(["arm", "seed"], sort=False)))
    given_up = {(arm, job["seed"]) for job in manifest.failed for arm in job["arms"]}
    failed = given_up | set(manifest.diverged)
    ended = manifest.cells_ended_early
    records = []
    for arm in experiment.resolved_arms:
        varied = varied_texts(experiment, arm.name)
        for seed in experiment.seeds:
            rows = by_cell.get((arm.name, seed), metrics.iloc[:0])
            reached = len(rows) > 0 and rows["epoch"].max() >= arm.experiment.training.epochs
            done = reached or (arm.name, seed) in ended
            status = "done" if done else "failed" if (arm.name, seed) in failed else "pending"
            cell = {"arm": arm.name, "seed": seed, "cell": cell_hash(arm, seed), **varied}
            records.append({**cell, "status": status, **_outcome(rows, task)})
    header = ["arm", "seed", "cell", *experiment.vary, "status", *outcome, *final]
    text = pd.DataFrame.from_records(records, columns=header).to_csv(index=False)
    # Read back, so that varied values have the types that a reader of grid.csv gets.
    empty = {column: [""] for column in (*experiment.vary, *outcome, *final)}
    texts = {"arm": str, "cell": str, "status": str}
    return read_exactly(text, texts, empty)


def _outcome_columns(task: TaskRecords) -> tuple[str, ...]:
    main = task.main
    return "epoch", f"last_{main}", f"best_{main}", "best_epoch", f"val_selected_{main}"


def _final_columns(task: TaskRecords) -> tuple[str, ...]:
    """Return the columns of metrics.csv whose last values the grid has, beside the main metric."""
    of_test = (*task.shown[1:], *task.shared_terms, "kendall_tau")
    return (*task.training_columns, *(f"test_{name}" for name in of_test))


def _outcome(rows: pd.DataFrame, task: TaskRecords) -> dict[str, Any]:
    if rows.empty:
        return {}
    last = rows.iloc[int(rows["epoch"].argmax())]
    main, monitor = rows[task.main_column], task.default_monitor
    best = rows.iloc[int(main.argmax())]
    val = rows[monitor] if monitor in rows else pd.Series(dtype=float)
    selected = main.iloc[int(val.argmax())] if val.notna().any() else None
    return {
        "epoch": int(last["epoch"]),
        f"last_{task.main}": last[task.main_column],
        f"best_{task.main}": best[task.main_column],
        "best_epoch": int(best["epoch"]),
        f"val_selected_{task.main}": selected,
        **{column: last[column] for column in _final_columns(task)},
    }
