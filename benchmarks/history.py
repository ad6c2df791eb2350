"""A large run's records, written as a run writes them, from random numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import load_experiment, to_toml
from rkkd_cli.files import write_atomically
from rkkd_cli.records.environment import environment
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.metrics import append_lines, columns, csv_lines, header_line, metrics_sha256
from rkkd_cli.records.run_directory import RunDirectory

EPOCHS, ARMS, SEEDS = 240, 45, 5
HEADER = columns(with_validation=False)


def large_experiment() -> Experiment:
    """Return 45 arms with 5 seeds over 240 epochs."""
    preset = load_experiment("rank_grad")
    arms: dict[str, dict[str, Any]] = {
        f"arm{number}": {"method": {"alpha": number / ARMS}} for number in range(ARMS)
    }
    training = preset.training.model_copy(update={"epochs": EPOCHS})
    given = {"arms": arms, "seeds": tuple(range(SEEDS)), "training": training}
    return preset.model_copy(update=given)


def epoch_of(seed: int, epoch: int, arms: Sequence[str], noise: np.random.Generator) -> str:
    """Return a seed's rows of an epoch, as lines."""
    own = [{"arm": arm, "seed": seed, "epoch": epoch, "lr": 0.1} for arm in arms]
    values = noise.random((len(arms), len(HEADER))).tolist()
    rows = [dict(zip(HEADER, row, strict=True)) | one for row, one in zip(values, own, strict=True)]
    return csv_lines(HEADER, rows)


def write_large_run(folder: Path) -> None:
    """Write a finished run of 54,000 rows."""
    experiment, noise = large_experiment(), np.random.default_rng(0)
    folder.mkdir(parents=True)
    run = RunDirectory(folder)
    write_atomically(run.experiment, to_toml(experiment))
    write_atomically(run.metrics, header_line(HEADER))
    lines = [
        epoch_of(seed, epoch, list(experiment.arms), noise)
        for seed in experiment.seeds
        for epoch in range(1, EPOCHS + 1)
    ]
    append_lines(run.metrics, "".join(lines))
    facts = environment()
    run.write_manifest(
        Manifest(
            run=run.name,
            status="finished",
            started="2026-01-01T00:00:00+00:00",
            command=["rkkd", "run"],
            device="cpu",
            threads=1,
            versions=facts["versions"],
            platform=facts["platform"],
            processor=facts["processor"],
            git_commit=None,
            metrics_sha256=metrics_sha256(run.metrics),
        )
    )
