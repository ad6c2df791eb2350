"""Runs made up for tests of the report: records without a training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from made_rows import arm_seed_epoch, grid_rows, metric_row

from rkkd_cli.analysis.pairing import RunRecord
from rkkd_cli.analysis.published import ComparedAccuracy, PublishedAccuracy
from rkkd_cli.analysis.published_curves import PublishedCurves
from rkkd_cli.analysis.selection import selection_of
from rkkd_cli.analysis.summary import MeanStd, mean_std
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment, to_toml
from rkkd_cli.config.tasks import CLASSIFICATION, TaskRecords, task_of
from rkkd_cli.records.manifest import Manifest, manifest_text
from rkkd_cli.records.metrics import columns
from rkkd_cli.report.grid_picture import GridPicture
from rkkd_cli.report.page.sources import PageRun
from rkkd_cli.report.picture import CurvePicture

ATTACK = "</script><img src=x onerror=\"document.title='sprung'\"><!--<script>{{ 7 * 7 }}&lt;"


def made_metrics(
    arms: tuple[str, ...] = ("kd", "kd_rank"),
    seeds: int = 3,
    epochs: int = 12,
    task: TaskRecords = CLASSIFICATION,
) -> pd.DataFrame:
    """Return smooth curves with noise; the second arm ends lower in its losses."""
    noise = np.random.default_rng(0)
    rows = []
    for arm, seed, epoch in arm_seed_epoch(arms, seeds, epochs):
        number = arms.index(arm)
        value = 1 / (1 + number + epoch) + noise.normal(0, 0.01)
        accuracy = 90 - 100 * value + 5 * number
        named = {"rank": -1 + value, task.main_column: accuracy}
        rows.append(metric_row(arm, seed, epoch, abs(value), task, **named))
    return pd.DataFrame(rows, columns=list(columns(False, task=task)))


def made_experiment(task: TaskRecords = CLASSIFICATION, *overrides: Override) -> Experiment:
    """Return the default experiment, with another task."""
    return load_experiment("rank_grad", [*of_task(task), *overrides])


def of_task(task: TaskRecords) -> list[Override]:
    """Return what makes another task of an experiment."""
    if task is CLASSIFICATION:
        return []
    sizes = [Override(f"{section}.embedding", 8) for section in ("teacher", "student")]
    return [Override("task", task.name), *sizes]


def made_picture(
    *runs: tuple[str, pd.DataFrame],
    published: PublishedCurves | None = None,
    teachers: Sequence[tuple[str, float]] = (),
) -> CurvePicture:
    """Return the picture of (run name, metrics) of the default experiment, with their task."""
    return CurvePicture.of([made_record(*run, teachers=teachers) for run in runs], published)


def made_record(
    name: str, metrics: pd.DataFrame, teachers: Sequence[tuple[str, float]] = ()
) -> RunRecord:
    """Return the record of a finished run with these (teacher, accuracy)."""
    task = task_of(metrics.columns)
    facts = [
        {
            "model": model,
            "source": "trained",
            task.main_column: level,
            "parameters": 1,
            "sha256": "",
        }
        for model, level in teachers
    ]
    manifest = made_manifest(name).model_copy(update={"teachers": facts})
    return RunRecord(name, made_experiment(task), manifest, metrics, "finished")


def made_manifest(name: str, text: str = "") -> Manifest:
    """Return the manifest of a finished run; ``text`` stands where a file may hold any text."""
    return Manifest(
        run=name, status="finished", started="2026-01-01T00:00:00+00:00", threads=1,
        command=["rkkd", "run", text or "rank_grad"], device=text or "cpu", platform=text,
        versions={"python": "3.11", "rkkd": text or "0.1.0"}, processor=text, git_commit=None,
        stopped=[text] if text else [],
    )  # fmt: skip


def made_run(name: str = "made", text: str = "", **shape: Any) -> PageRun:
    """Return a finished run; ``text`` stands wherever a file may hold any text."""
    metrics = made_metrics(**shape)
    experiment = made_experiment(task_of(metrics.columns))
    if text:
        said = dict.fromkeys(("title", "source", "finding", "notes"), text)
        experiment = experiment.model_copy(update=said)
    manifest = made_manifest(name, text)
    files = {
        "metrics.csv": metrics.to_csv(index=False).encode(),
        "experiment.toml": to_toml(experiment).encode(),
        "manifest.json": manifest_text(manifest).encode(),
    }
    return PageRun(name, experiment, manifest, metrics, "finished", files)


def made_published(arms: tuple[str, ...] = ("kd", "kd_rank")) -> PublishedCurves:
    """Return published curves of three quantities, as their source states them."""
    rows = [
        (arm, epoch, 5 / epoch, -1.2 - 0.01 * epoch, 60.0 + epoch)
        for arm in arms
        for epoch in range(1, 15)
    ]
    header = ["arm", "epoch", "kd_loss", "rank_loss", "test_acc"]
    return PublishedCurves(pd.DataFrame(rows, columns=header), "a study")


def compared(acc: float, select: str = "last", measured: MeanStd | None = None) -> ComparedAccuracy:
    """Return a published accuracy beside a measured one."""
    return ComparedAccuracy(PublishedAccuracy(acc, select), measured)


def made_grid(
    values: Mapping[str, Sequence[Any]],
    published: Mapping[tuple[Any, ...], float] | None = None,
    references: Mapping[str, float] | None = None,
    **rows: Any,
) -> GridPicture:
    """Return what is drawn of a grid over the values of its keys; ``rows`` are for grid_rows.

    ``published`` has the accuracies of cells at their last epoch.
    """
    frame = grid_rows(values, **rows)
    measured = {arm: mean_std(seeds["last_acc"]) for arm, seeds in frame.groupby("arm")}
    by_arm = {"_".join(map(str, cell)): acc for cell, acc in (published or {}).items()}
    stated = {arm: compared(acc, measured=measured[arm]) for arm, acc in by_arm.items()}
    selection = selection_of("last", CLASSIFICATION)
    return GridPicture("my-grid", frame, tuple(values), selection, references or {}, stated)
