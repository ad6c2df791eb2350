"""``rkkd grid --dry-run``: the status of every cell, and the cost of those that are left."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
import typer

from rkkd_cli.analysis.grid import grid_frame
from rkkd_cli.api.requests import GridRequest
from rkkd_cli.cli.output.console import print_table
from rkkd_cli.cli.output.tables import plain_table
from rkkd_cli.cli.runtime.dry_run import (
    headers_of,
    print_lines,
    size_text,
    span_text,
    stream_lines,
)
from rkkd_cli.config.experiment import Experiment, TeacherConfig, TrainingConfig
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.check import check_device, check_experiment
from rkkd_cli.sweep.doubts import doubts
from rkkd_cli.sweep.estimate import StreamEstimate, estimate_stream
from rkkd_cli.sweep.jobs import group_by_stream
from rkkd_cli.sweep.recording.beginning import metrics_header, new_manifest
from rkkd_cli.train.device import describe_device, keep_freed_memory, pick_device, use_threads


def print_cells(request: GridRequest, experiment: Experiment, retry: bool, as_json: bool) -> None:
    """Check everything, then print the cells and the estimates. Writes nothing."""
    checked = check_experiment(experiment, cache_directory())
    device = pick_device(experiment.device)
    check_device(experiment, device)
    use_threads(experiment.threads)
    keep_freed_memory()
    objectives = {arm: text for stream in checked for arm, text in stream.objectives.items()}
    cells = _cells(request, experiment).assign(objective=lambda rows: rows["arm"].map(objectives))
    left = {"pending", "failed"} if retry else {"pending"}
    recipes = {teacher: one for stream in checked for teacher, one in stream.recipes.items()}
    estimates = _estimates(experiment, cells[cells["status"].isin(left)], recipes, device)
    directory = str(request.out / request.name)
    if as_json:
        rows = [{k: None if pd.isna(v) else v for k, v in row.items()}
                for row in cells.to_dict("records")]  # fmt: skip
        typer.echo(json.dumps({"directory": directory, "cells": rows, "jobs": estimates}))
        return
    headers = headers_of(experiment)
    print_lines([("title", experiment.title)] if experiment.title else [])
    for stream in checked:
        print_lines(stream_lines(stream, headers.get(stream.experiment.dataset)))
    counts = ", ".join(f"{n} {status}" for status, n in cells["status"].value_counts().items())
    print_lines([("cells", counts)])
    print_lines(("time", _estimate_sentence(one, describe_device(device))) for one in estimates)
    print_lines(("warning", sentence) for sentence in doubts(checked))
    print_lines([("folder", f"{directory}; dry run: nothing was written")])
    columns = ["arm", "seed", "cell", *experiment.vary, "status", "objective"]
    texts = cells[columns].fillna("").astype(str).to_numpy().tolist()
    print_table(plain_table(columns, texts))


def _cells(request: GridRequest, experiment: Experiment) -> pd.DataFrame:
    """Return the rows that grid.csv would have now."""
    begun = request.begun
    if begun is None:
        no_rows = pd.DataFrame(columns=list(metrics_header(experiment)))
        return grid_frame(no_rows, experiment, new_manifest(request.name, "cpu"))
    manifest = begun.read_manifest()
    return grid_frame(begun.read_metrics(manifest), experiment, manifest)


def _estimates(
    experiment: Experiment,
    left: pd.DataFrame,
    recipes: Mapping[TeacherConfig, TrainingConfig],
    device: torch.device,
) -> list[dict[str, Any]]:
    """Return the time and memory for the cells of each stream that are left.

    ``recipes`` are those by which teachers are trained.
    """
    arms = {arm.name: arm for arm in experiment.resolved_arms}
    estimates = []
    for seed, cells in left.groupby("seed", sort=False):
        for group in group_by_stream(arms[name] for name in cells["arm"]):
            estimate = estimate_stream(group, recipes, device)
            estimates.append({"seed": int(str(seed)), **_estimate_json(estimate)})
    return estimates


def _estimate_json(estimate: StreamEstimate) -> dict[str, Any]:
    facts = estimate._asdict()
    return {"cells": facts.pop("arms"), **facts}


def _estimate_sentence(estimate: dict[str, Any], device: str) -> str:
    training, fits = estimate["teacher_seconds"], estimate["fit"]
    fit = f"; only {fits} cells fit into memory at once" if fits < estimate["cells"] else ""
    teacher = f"; first {span_text(training)} to train the teacher, unless cached" * bool(training)
    return (
        f"seed {estimate['seed']}: {estimate['cells']} cells in lockstep, about "
        f"{span_text(estimate['seconds'])} on {device} ({100 * estimate['teacher_share']:.0f} % of "
        f"it in the teacher's forward pass) and {size_text(estimate['bytes'])} beside PyTorch "
        f"itself{fit}{teacher}"
    )
