"""Every shipped preset trains: its models, recipes and arms, on a few small images."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment, preset_names
from rkkd_cli.config.tasks import EMBEDDING
from rkkd_cli.sweep.check import check_experiment
from rkkd_cli.sweep.engines.local import run_jobs
from rkkd_cli.sweep.recording.run_state import RunState
from rkkd_cli.train.events import EpochDone
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController

CLASSES, SIZE = 10, 32


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two training images and two test images of each of ten classes.

    One for all presets, so that those with the same teacher train it once.
    """
    root = tmp_path_factory.mktemp("tiny") / "images"
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in range(CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(2):
                pixels = generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


@pytest.mark.parametrize("preset", preset_names())
def test_every_arm_of_the_preset_trains_for_an_epoch(
    preset: str, images: Path, cache: Path
) -> None:
    values = {
        "dataset.name": "folder",
        "dataset.root": str(images),
        "dataset.image_size": SIZE,
        "dataset.limit_train": CLASSES,
        "dataset.limit_test": CLASSES,
        "dataset.val_share": 0.0,  # a class of one image has none to hold out
        "training.epochs": 1,
        "training.warmup_epochs": 0.0,
        "training.warmup_lr": 0.0,
        "seeds": [0],
        "decoders": 0,
    }
    preset_as_shipped = load_experiment(preset)
    task = preset_as_shipped.task_records
    batches = {"batch_size": 5}
    if task is EMBEDDING:
        values["dataset.classes"] = {"train": "0:5", "test": "5:10"}
        del values["dataset.limit_train"], values["dataset.limit_test"]  # two images of a class
        batches = {"batch_size": 4, "per_class": 2, "batches_per_epoch": 2}
        values |= {"student.weights": None}
    values |= {f"training.{key}": value for key, value in batches.items()}
    for section in preset_as_shipped.teacher_sections:
        values[f"{section}.training.epochs"] = 1
        values |= {f"{section}.training.{key}": value for key, value in batches.items()}
        values[f"{section}.weights"] = None  # there is no network
    given = [Override(key, value) for key, value in values.items()]
    for arm, overrides in preset_as_shipped.arms.items():
        if "epochs" in overrides.get("training", {}):  # the recipe of its own
            given += [Override(f"arms.{arm}.training", {"epochs": 1})]
    experiment = load_experiment(preset, given)
    check_experiment(experiment, cache)
    events = run_jobs(
        RunState(experiment).work(), Runtime(torch.device("cpu"), cache, StopController(10))
    )
    rows = [row for event in events if isinstance(event, EpochDone) for row in event.rows]
    assert sorted(row["arm"] for row in rows) == sorted(experiment.arms)
    for row in rows:
        terms = (*task.shared_terms, f"test_{task.hard_term}", "test_kl")
        assert all(math.isfinite(row[name]) for name in terms)
        assert -1 <= row["rank"] <= 1
