"""``rkkd grid --dry-run``: every cell and how it stands, and what the rest would cost."""

import json
from datetime import timedelta
from typing import Any

import pandas as pd
import typer

from rkkd_cli.analysis.grid import grid_frame
from rkkd_cli.cli.output.console import err, wide
from rkkd_cli.cli.output.tables import plain_table
from rkkd_cli.cli.runtime.requests import GridRequest
from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.sweep.check import check_device, check_experiment
from rkkd_cli.sweep.estimate import epoch_time, free_memory, memory_of
from rkkd_cli.sweep.jobs import grouped
from rkkd_cli.sweep.recording.recorder import metrics_header, new_manifest
from rkkd_cli.train.device import describe_device, keep_freed_memory, pick_device, use_threads


def print_cells(request: GridRequest, experiment: Experiment, retry: bool, as_json: bool) -> None:
    """Check everything, then print the cells and the estimate. Writes nothing."""
    check_experiment(experiment, cache_directory())
    check_device(experiment, pick_device(experiment.device))
    use_threads(experiment.threads)
    keep_freed_memory()
    cells = _cells(request, experiment)
    wanted = {"pending", "failed"} if retry else {"pending"}
    estimates = _estimates(experiment, cells[cells["status"].isin(wanted)])
    directory = str(request.out / request.name)
    if as_json:
        listed = [{k: None if pd.isna(v) else v for k, v in row.items()}
                  for row in cells.to_dict("records")]  # fmt: skip
        typer.echo(json.dumps({"directory": directory, "cells": listed, "jobs": estimates}))
        return
    columns = ["arm", "seed", "cell", *experiment.vary, "status"]
    texts = cells[columns].fillna("").astype(str).to_numpy().tolist()
    wide.print(plain_table(columns, texts))
    counts = ", ".join(f"{n} {status}" for status, n in cells["status"].value_counts().items())
    _say(f"{directory}: {counts}")
    for one in estimates:
        _say(_sentence(one, experiment))
    _say("the teacher's own training is not counted; dry run: nothing was written")


def _cells(request: GridRequest, experiment: Experiment) -> pd.DataFrame:
    """Return the rows of grid.csv as they stand."""
    begun = request.begun
    if begun is None:
        empty = pd.DataFrame(columns=list(metrics_header(experiment)))
        return grid_frame(empty, experiment, new_manifest(request.name, "cpu"))
    manifest: Manifest = begun.read_manifest()
    return grid_frame(begun.read_metrics(manifest), experiment, manifest)


def _estimates(experiment: Experiment, left: pd.DataFrame) -> list[dict[str, Any]]:
    """Return, for the cells of each stream that are left, their time and memory."""
    device = pick_device(experiment.device)
    arms = {arm.name: arm for arm in experiment.resolved_arms}
    estimates = []
    for seed, cells in left.groupby("seed", sort=False):
        for group in grouped(arms[name] for name in cells["arm"]):
            estimates.append({"seed": int(str(seed)), **_estimate(group, device)})
    return estimates


def _estimate(arms: tuple[Arm, ...], device: Any) -> dict[str, Any]:
    time, memory = epoch_time(arms, device), memory_of(arms)
    return {
        "cells": len(arms),
        "seconds": time.epoch * arms[0].experiment.training.epochs,
        "teacher_share": time.teacher / time.epoch,
        "bytes": memory.shared + memory.per_arm * len(arms),
        "fit": memory.max_arms(free_memory(device)),
    }


def _sentence(one: dict[str, Any], experiment: Experiment) -> str:
    device = describe_device(pick_device(experiment.device))
    duration = timedelta(seconds=round(one["seconds"]))
    return (
        f"seed {one['seed']}: {one['cells']} cells in lockstep, about {duration} on {device} "
        f"({100 * one['teacher_share']:.0f} % of it the teacher's pass) and "
        f"{one['bytes'] / 1e9:.2f} GB beside PyTorch itself; {one['fit']} cells would fit at once"
    )


def _say(sentence: str) -> None:
    err.print(sentence, markup=False, highlight=False, soft_wrap=True)
