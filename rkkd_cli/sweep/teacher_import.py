"""A teacher file from elsewhere: recognised, measured on a dataset, and kept in the cache."""

import hashlib
import json
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rkkd_cli import __version__
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.catalogue import Shape, peek
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.stream import DeviceImages
from rkkd_cli.errors import UserError
from rkkd_cli.files import write_problem
from rkkd_cli.models import Classifier, build_model
from rkkd_cli.models.checkpoint.layout import Weights, read_weights
from rkkd_cli.models.checkpoint.load import load_fitted
from rkkd_cli.models.checkpoint.recognise import Images, Recognised, recognise
from rkkd_cli.sweep.check import check_forward, dataset_request, size_problem
from rkkd_cli.sweep.sources import dataset_facts, read_dataset
from rkkd_cli.train.device import use_precision
from rkkd_cli.train.events import DatasetReady, Event
from rkkd_cli.train.teacher.model import freeze, measured_facts
from rkkd_cli.train.teacher.safetensors_files import IMPORTED, keep_imported, told, told_images
from rkkd_cli.train.teacher.store import file_sha256, size_text

# How much better than guessing a trained teacher must be: a share of what there is to gain, and
# more than chance gives in so many images.
LEAST_GAIN, STANDARD_ERRORS = 0.05, 3.0


class TeacherFile(NamedTuple):
    """A checkpoint file and the model that it holds."""

    weights: Weights
    model: Recognised
    sha256: str


class Imported(NamedTuple):
    """An imported teacher: its weights file, its facts, and the accuracy of guessing, in percent.

    ``near_chance`` tells that the teacher is hardly better than that.
    """

    path: Path
    facts: dict[str, Any]
    chance: float
    near_chance: bool


def read_teacher_file(path: Path, ema: bool = False) -> Weights:
    """Return the weights; among their words is what our own metadata state of the model."""
    weights = read_weights(path, ema)
    stated = told(weights.metadata, "model")
    return weights if stated is None else weights._replace(words=(stated, *weights.words))


def recognise_teacher(
    weights: Weights, model: str | None = None, images: Images | None = None
) -> TeacherFile:
    """Return which model the file holds. Raises UserError where that cannot be told."""
    images = images or told_images(weights.metadata)
    return TeacherFile(weights, recognise(weights, model, images), file_sha256(weights.path))


def images_of(experiment: Experiment) -> Images:
    """Return what a teacher of the experiment is wanted for. Raises UserError without dataset."""
    shape = peek(dataset_request(experiment))
    return Images(shape.num_classes, shape.in_channels, shape.size)


def import_teacher(
    file: TeacherFile, experiment: Experiment, device: torch.device, cache: Path
) -> Generator[Event, None, Imported]:
    """Measure the teacher on the experiment's test images and keep it; yields what happens.

    Raises UserError where its classes, channels or sizes are not those of the dataset, before any
    image is read.
    """
    problem = write_problem(cache)
    if problem:
        raise UserError(f"cannot write to the cache {cache}: {problem}; set RKKD_CACHE to a folder")
    use_precision(device, experiment.precision)
    model = _model_for(file, experiment, peek(dataset_request(experiment)))
    dataset = yield from read_dataset(experiment, cache)
    yield DatasetReady(dataset_facts(dataset))
    test = DeviceImages(dataset.test, dataset, device)
    model = model.to(device).to(memory_format=torch.channels_last)
    found, precision = file.model, experiment.precision
    teacher = freeze(model, device, precision, found.classes, found.channels, dataset.image_size)
    facts = measured_facts(teacher, found.model, test) | _facts(file, dataset)
    path = keep_imported(cache, _key(file, dataset), found.state, facts)
    chance = 100 * int(np.bincount(dataset.test.labels).max()) / len(dataset.test)
    return Imported(path, facts | {"key": path.parent.name}, chance, _is_near(facts, chance))


def _model_for(file: TeacherFile, experiment: Experiment, shape: Shape) -> Classifier:
    """Return the model with the file's weights. Raises UserError where the images do not fit."""
    path, found, name = file.weights.path, file.model, experiment.dataset.name
    way_out = "name its dataset with --dataset, or a preset of it"
    if found.classes != shape.num_classes:
        raise UserError(
            f"checkpoint {path} was trained on {found.classes} classes, the dataset {name} has "
            f"{shape.num_classes}; {way_out}"
        )
    if found.channels != shape.in_channels:
        raise UserError(
            f"checkpoint {path} takes images of {found.channels} channels, those of the dataset "
            f"{name} have {shape.in_channels}; {way_out}"
        )
    problem = size_problem(path, found, name, shape)
    if problem is not None:
        raise problem
    model = build_model(found.model, found.classes, found.channels, shape.size)
    load_fitted(model, found.state)
    check_forward(found.model, model, shape)
    return model


def _facts(file: TeacherFile, dataset: Dataset) -> dict[str, Any]:
    return {
        "classes": file.model.classes,
        "channels": file.model.channels,
        "image_size": size_text(dataset.image_size),
        "dataset": dataset.name,
        "test_images": len(dataset.test),
        "sha256": file.sha256,
        "file": file.weights.path.name,
        "weights": file.weights.key,
        "ema": file.weights.ema,
        "rkkd": __version__,
        "torch": torch.__version__,
        "imported": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _key(file: TeacherFile, dataset: Dataset) -> str:
    """Return the key: one for each file, choice of weights in it, model, and test images."""
    parts = [file.sha256, file.weights.key, file.model.model, dataset.fingerprint]
    return IMPORTED + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _is_near(facts: dict[str, Any], chance: float) -> bool:
    error: float = (chance * (100 - chance) / facts["test_images"]) ** 0.5
    return float(facts["test_acc"] - chance) < max(
        LEAST_GAIN * (100 - chance), STANDARD_ERRORS * error
    )
