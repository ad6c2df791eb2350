"""``rkkd grid --dry-run``: the status of every cell, and the cost of those that are left."""

import json
from datetime import timedelta
from typing import Any

import pandas as pd
import torch
import typer

from rkkd_cli.analysis.grid import grid_frame
from rkkd_cli.cli.output.console import err, print_line, print_table
from rkkd_cli.cli.output.tables import plain_table
from rkkd_cli.cli.runtime.requests import GridRequest
from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.check import check_device, check_experiment
from rkkd_cli.sweep.estimate import epoch_time, free_memory, job_memory
from rkkd_cli.sweep.jobs import group_by_stream
from rkkd_cli.sweep.recording.recorder import metrics_header, new_manifest
from rkkd_cli.train.device import describe_device, keep_freed_memory, pick_device, use_threads


def print_cells(request: GridRequest, experiment: Experiment, retry: bool, as_json: bool) -> None:
    """Check everything, then print the cells and the estimates. Writes nothing."""
    check_experiment(experiment, cache_directory())
    device = pick_device(experiment.device)
    check_device(experiment, device)
    use_threads(experiment.threads)
    keep_freed_memory()
    cells = _cells(request, experiment)
    left = {"pending", "failed"} if retry else {"pending"}
    estimates = _estimates(experiment, cells[cells["status"].isin(left)], device)
    directory = str(request.out / request.name)
    if as_json:
        rows = [{k: None if pd.isna(v) else v for k, v in row.items()}
                for row in cells.to_dict("records")]  # fmt: skip
        typer.echo(json.dumps({"directory": directory, "cells": rows, "jobs": estimates}))
        return
    columns = ["arm", "seed", "cell", *experiment.vary, "status"]
    texts = cells[columns].fillna("").astype(str).to_numpy().tolist()
    print_table(plain_table(columns, texts))
    counts = ", ".join(f"{n} {status}" for status, n in cells["status"].value_counts().items())
    print_line(err, f"{directory}: {counts}")
    for estimate in estimates:
        print_line(err, _estimate_sentence(estimate, describe_device(device)))
    print_line(err, "the training of the teacher is not counted; dry run: nothing was written")


def _cells(request: GridRequest, experiment: Experiment) -> pd.DataFrame:
    """Return the rows that grid.csv would have now."""
    begun = request.begun
    if begun is None:
        no_rows = pd.DataFrame(columns=list(metrics_header(experiment)))
        return grid_frame(no_rows, experiment, new_manifest(request.name, "cpu"))
    manifest = begun.read_manifest()
    return grid_frame(begun.read_metrics(manifest), experiment, manifest)


def _estimates(
    experiment: Experiment, left: pd.DataFrame, device: torch.device
) -> list[dict[str, Any]]:
    """Return the time and memory for the cells of each stream that are left."""
    arms = {arm.name: arm for arm in experiment.resolved_arms}
    return [
        {"seed": int(str(seed)), **_estimate(arms_of_stream, device)}
        for seed, cells in left.groupby("seed", sort=False)
        for arms_of_stream in group_by_stream(arms[name] for name in cells["arm"])
    ]


def _estimate(arms: tuple[Arm, ...], device: torch.device) -> dict[str, Any]:
    time, memory = epoch_time(arms, device), job_memory(arms)
    return {
        "cells": len(arms),
        "seconds": time.epoch * arms[0].experiment.training.epochs,
        "teacher_share": time.teacher / time.epoch,
        "bytes": memory.shared + memory.per_arm * len(arms),
        "fit": memory.max_arms(free_memory(device)),
    }


def _estimate_sentence(estimate: dict[str, Any], device: str) -> str:
    duration = timedelta(seconds=round(estimate["seconds"]))
    return (
        f"seed {estimate['seed']}: {estimate['cells']} cells in lockstep, about {duration} on "
        f"{device} ({100 * estimate['teacher_share']:.0f} % of it in the teacher's forward pass) "
        f"and {estimate['bytes'] / 1e9:.2f} GB beside PyTorch itself; {estimate['fit']} cells fit "
        "into memory at once"
    )
