"""Every shipped preset trains: its models, recipes and arms, on a few small images."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detection_folders import coco_content, write_coco
from PIL import Image

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment, preset_names
from rkkd_cli.config.tasks import (
    CLASSIFICATION,
    DETECTION,
    EMBEDDING,
    TaskRecords,
    detector_kind,
)
from rkkd_cli.sweep.check import check_experiment
from rkkd_cli.sweep.engines.local import run_jobs
from rkkd_cli.sweep.recording.run_state import RunState
from rkkd_cli.train.events import EpochDone
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController

CLASSES, SIZE = 10, 32
# Presets of large models or of many arms, which take seconds to build and to train.
LARGE = (
    "coco_r101_r18", "coco_r101_r50", "coco_r50_mobilenet_v2", "coco_retinanet_r50",
    "detection_scenes", "kendall_pairs", "kendall_plugin", "kendall_weights", "rank_grad_imagenet",
    "rkd_cars196", "rkd_cifar100", "rkd_cub200", "rkd_imagenet", "rkd_sop",
    "simkd_learning_rates", "simkd_variants", "vit_cifar100", "vit_imagenet",
)  # fmt: skip


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


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as COCO's, with three training images and two test images of two classes."""
    root = tmp_path_factory.mktemp("tiny") / "scenes"
    for split, count in (("train2017", 3), ("val2017", 2)):
        annotations = root / "annotations" / f"instances_{split}.json"
        write_coco(root / split, annotations, coco_content(count, (48, 64)))
    return root


def values_on_images(task: TaskRecords, root: Path) -> dict[str, Any]:
    values = {
        "dataset.name": "folder",
        "dataset.root": str(root),
        "dataset.image_size": SIZE,
        "dataset.val_share": 0.0,  # a class of one image has none to hold out
    }
    if task is EMBEDDING:  # two images of a class
        return values | {"dataset.classes": {"train": "0:5", "test": "5:10"}}
    return values | {"dataset.limit_train": CLASSES, "dataset.limit_test": CLASSES}


def values_on_scenes(experiment: Experiment, root: Path) -> dict[str, Any]:
    """The preset's detectors on few proposals, and where a part's width is an option, narrow."""
    values: dict[str, Any] = {
        "dataset.name": "coco",
        "dataset.root": str(root),
        "dataset.limit_train": None,
        "dataset.limit_test": None,
        "dataset.min_size": [64],
    }
    for section in ("student", "teacher"):
        model = getattr(experiment, section).model
        kind = detector_kind(model)
        if model.startswith(f"{kind}:"):
            values[f"{section}.options.out_channels"] = 8
        if model.startswith("fasterrcnn:"):
            values[f"{section}.options.representation_size"] = 16
        if kind == "fasterrcnn":
            values[f"{section}.options.rpn_post_nms_top_n_train"] = 20
            values[f"{section}.options.box_batch_size_per_image"] = 16
    return values


def batches_of(task: TaskRecords) -> dict[str, int]:
    if task is EMBEDDING:
        return {"batch_size": 4, "per_class": 2, "batches_per_epoch": 2}
    return {"batch_size": 2, "batches_per_epoch": 2} if task is DETECTION else {"batch_size": 5}


@pytest.mark.parametrize(
    "preset",
    [pytest.param(one, marks=pytest.mark.slow if one in LARGE else ()) for one in preset_names()],
)
def test_every_arm_of_the_preset_trains_for_an_epoch(
    preset: str, images: Path, scenes: Path, cache: Path
) -> None:
    preset_as_shipped = load_experiment(preset)
    task = preset_as_shipped.task_records
    values: dict[str, Any] = {"seeds": [0], "decoders": 0}
    if task is DETECTION:
        values |= values_on_scenes(preset_as_shipped, scenes)
    else:
        values |= values_on_images(task, images)
    if task is not CLASSIFICATION:
        values["student.weights"] = None  # there is no network
    recipe = {**batches_of(task), "epochs": 1, "warmup_epochs": 0.0, "warmup_lr": 0.0}
    values |= {f"training.{key}": value for key, value in recipe.items()}
    for section in preset_as_shipped.teacher_sections:
        values |= {f"{section}.training.{key}": value for key, value in recipe.items()}
        values[f"{section}.weights"] = None
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
