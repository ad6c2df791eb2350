"""``grid.csv``: one row per cell and seed, computed from metrics.csv."""

import io
from typing import Any

import pandas as pd

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import cell_hash, varied_texts
from rkkd_cli.records.manifest import Manifest

OUTCOME = ("epoch", "last_acc", "best_acc", "best_epoch", "val_selected_acc")
FINAL = (
    "ce", "kl", "rank", "kendall_tau", "agreement", "train_acc",
    "test_ce", "test_kl", "test_rank", "test_kendall_tau",
)  # fmt: skip


def grid_frame(metrics: pd.DataFrame, experiment: Experiment, manifest: Manifest) -> pd.DataFrame:
    """Return one row per cell and seed: accuracies in percent and the final raw terms.

    ``status`` is done, failed or pending. ``val_selected_acc`` is the test accuracy at the epoch
    with the best validation accuracy, empty without a validation split.
    """
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
            records.append({**cell, "status": status, **_outcome(rows)})
    header = ["arm", "seed", "cell", *experiment.vary, "status", *OUTCOME, *FINAL]
    text = pd.DataFrame.from_records(records, columns=header).to_csv(index=False)
    # Read back, so that varied values have the types that a reader of grid.csv gets.
    empty = {column: [""] for column in (*experiment.vary, *OUTCOME, *FINAL)}
    texts = {"arm": str, "cell": str, "status": str}
    return pd.read_csv(io.StringIO(text), dtype=texts, keep_default_na=False, na_values=empty)


def _outcome(rows: pd.DataFrame) -> dict[str, Any]:
    if rows.empty:
        return {}
    last = rows.iloc[int(rows["epoch"].argmax())]
    best = rows.iloc[int(rows["test_acc"].argmax())]
    val_acc = rows["val_acc"] if "val_acc" in rows else pd.Series(dtype=float)
    selected = rows["test_acc"].iloc[int(val_acc.argmax())] if val_acc.notna().any() else None
    return {
        "epoch": int(last["epoch"]),
        "last_acc": last["test_acc"],
        "best_acc": best["test_acc"],
        "best_epoch": int(best["epoch"]),
        "val_selected_acc": selected,
        **{column: last[column] for column in FINAL},
    }
