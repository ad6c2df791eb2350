"""Runs made up for tests of the report: records without a training."""

from typing import Any

import numpy as np
import pandas as pd

from rkkd_cli.analysis.published_curves import PublishedCurves
from rkkd_cli.config.presets import load_experiment, to_toml
from rkkd_cli.records.manifest import Manifest, manifest_text
from rkkd_cli.records.metrics import columns
from rkkd_cli.report.page.sources import RunPart

ATTACK = "</script><img src=x onerror=\"document.title='sprung'\"><!--<script>{{ 7 * 7 }}&lt;"


def made_metrics(
    arms: tuple[str, ...] = ("kd", "kd_rank"), seeds: int = 3, epochs: int = 12
) -> pd.DataFrame:
    """Return smooth curves with noise; the second arm ends lower in its losses."""
    noise = np.random.default_rng(0)
    rows = []
    for number, arm in enumerate(arms):
        for seed in range(seeds):
            for epoch in range(1, epochs + 1):
                value = 1 / (1 + number + epoch) + noise.normal(0, 0.01)
                row: dict[str, Any] = dict.fromkeys(columns(False), abs(value))
                row |= {"arm": arm, "seed": seed, "epoch": epoch, "lr": 0.1}
                row |= {"rank": -1 + value, "test_acc": 90 - 100 * value + 5 * number}
                rows.append(row)
    return pd.DataFrame(rows, columns=list(columns(False)))


def made_run(name: str = "made", text: str = "", **shape: Any) -> RunPart:
    """Return a finished run; ``text`` stands wherever a file may hold any text."""
    experiment = load_experiment("rank_grad")
    if text:
        said = dict.fromkeys(("title", "source", "finding", "notes"), text)
        experiment = experiment.model_copy(update=said)
    manifest = Manifest(
        run=name, status="finished", started="2026-01-01T00:00:00+00:00", threads=1,
        command=["rkkd", "run", text or "rank_grad"], device=text or "cpu", platform=text,
        versions={"python": "3.11", "rkkd": text or "0.1.0"}, processor=text, git_commit=None,
        stopped=[text] if text else [],
    )  # fmt: skip
    metrics = made_metrics(**shape)
    files = {
        "metrics.csv": metrics.to_csv(index=False).encode(),
        "experiment.toml": to_toml(experiment).encode(),
        "manifest.json": manifest_text(manifest).encode(),
    }
    return RunPart(name, experiment, manifest, "finished", metrics, files)


def made_published(arms: tuple[str, ...] = ("kd", "kd_rank")) -> PublishedCurves:
    """Return published curves of three quantities, as their source states them."""
    rows = [
        (arm, epoch, 5 / epoch, -1.2 - 0.01 * epoch, 60.0 + epoch)
        for arm in arms
        for epoch in range(1, 15)
    ]
    header = ["arm", "epoch", "kd_loss", "rank_loss", "test_acc"]
    return PublishedCurves(pd.DataFrame(rows, columns=header), "a study")
