"""Imports a teacher's file: recognises its model, measures it on a dataset, and caches it."""

import hashlib
import json
from collections.abc import Generator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rkkd_cli import __version__
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.tasks import detector_kind
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.model_input import ModelInput, plain_format
from rkkd_cli.data.reading import inspect_dataset
from rkkd_cli.data.stream import DeviceImages
from rkkd_cli.errors import UserError
from rkkd_cli.files import files_sha256
from rkkd_cli.models import LIBRARIES, Classifier, build_model
from rkkd_cli.models.checkpoint.layout import CheckpointWeights, read_weights
from rkkd_cli.models.checkpoint.load import load_fitted
from rkkd_cli.models.checkpoint.recognise import ImageSpec, RecognisedModel, recognise
from rkkd_cli.models.detection.published import read_detector_file
from rkkd_cli.models.external.options import NO_OPTIONS
from rkkd_cli.sweep.check import check_cache
from rkkd_cli.sweep.checked_model import check_forward
from rkkd_cli.sweep.datasets import dataset_request
from rkkd_cli.sweep.sources import dataset_facts, read_dataset
from rkkd_cli.sweep.teacher_fit import images_error
from rkkd_cli.train.configured_model import model_input
from rkkd_cli.train.device import use_precision
from rkkd_cli.train.events import DatasetReady, Event
from rkkd_cli.train.teacher.model import Teacher, chance_notes, freeze, measure_teacher
from rkkd_cli.train.teacher.preprocessing import (
    check_class_order,
    differences,
    preprocessing_facts,
)
from rkkd_cli.train.teacher.safetensors_files import (
    images_in_metadata,
    is_composed,
    metadata_fact,
    options_in_metadata,
    recorded_facts,
    save_imported,
)
from rkkd_cli.train.teacher.store import IMPORTED_PREFIX


class TeacherFile(NamedTuple):
    """A checkpoint file and the model that it holds."""

    weights: CheckpointWeights
    model: RecognisedModel
    sha256: str


class ImportedTeacher(NamedTuple):
    """An imported teacher: its weights file, its facts, and sentences of warning."""

    path: Path
    facts: dict[str, Any]
    notes: list[str]


def recognise_teacher(
    weights: CheckpointWeights,
    model: str | None = None,
    images: ImageSpec | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> TeacherFile:
    """Return the file with the model that it holds. Raises UserError if that is not clear.

    Without options, those that the file states are taken.
    """
    if is_composed(weights.metadata):
        raise UserError(
            f"checkpoint {weights.path} holds a student with the parts that its method added, "
            "which is no model that can teach; `rkkd export` writes it as .pt2 or .onnx"
        )
    images = images or images_in_metadata(weights.metadata)
    stated = _stated_model(weights, model, images, options)
    recognised = stated or recognise(weights, model, images, options=options)
    return TeacherFile(weights, recognised, files_sha256(weights.files))


def _stated_model(
    weights: CheckpointWeights,
    model: str | None,
    images: ImageSpec | None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> RecognisedModel | None:
    """Return the model that the file states together with its options, if it states some.

    Code of the user's is not imported because a file names it. Raises UserError for a misfit.
    """
    stated = options_in_metadata(weights.metadata)
    name = metadata_fact(weights.metadata, "model") if model is None else model
    is_known = name is not None and (model is not None or name.partition(":")[0] in LIBRARIES)
    if options or not stated or not is_known:
        return None
    return recognise(weights, name, images, options=stated)


def images_of(experiment: Experiment) -> ImageSpec:
    """Return the images that the experiment's teacher gets. Raises UserError for no such dataset.

    What belongs to a library's weights is not among what decides this.
    """
    dataset = inspect_dataset(dataset_request(experiment))
    side = experiment.teacher.image_size
    size = dataset.size if side is None else (side, side)
    return ImageSpec(dataset.num_classes, dataset.in_channels, size)


def model_in_checkpoint(experiment: Experiment) -> tuple[str, Mapping[str, Any]]:
    """Return the model that the teacher's checkpoint holds, and its options.

    It is the experiment's own, if that fits; a detector is the experiment's, or the one that the
    file states. Raises UserError if the file cannot be read, or if no model is recognised in it.
    """
    teacher = experiment.teacher
    assert teacher.weights is not None
    path = Path(teacher.weights).expanduser()
    if experiment.task == "detection":
        metadata = read_detector_file(path).metadata
        stated = metadata_fact(metadata, "model") or ""
        if detector_kind(stated) is None:
            return teacher.model, teacher.given_options
        return stated, options_in_metadata(metadata)
    found = _classifier_in(read_weights(path), experiment)
    return found.model, found.options


def _classifier_in(weights: CheckpointWeights, experiment: Experiment) -> RecognisedModel:
    images, teacher = images_of(experiment), experiment.teacher
    stated = _stated_model(weights, None, images)
    if stated is not None:
        return stated
    with suppress(UserError):
        return recognise(weights, teacher.model, images, options=teacher.given_options)
    return recognise(weights, None, images, flag="--teacher")


def import_teacher(
    file: TeacherFile, experiment: Experiment, device: torch.device, cache: Path
) -> Generator[Event, None, ImportedTeacher]:
    """Measure the teacher on the experiment's test images and cache it; yields what happens.

    Raises UserError, before any image is read, if its classes, channels or image size are not those
    of the dataset.
    """
    check_cache(cache)
    use_precision(device, experiment.precision)
    model = _build_model(file, experiment)
    dataset = yield from read_dataset(experiment, cache)
    assert isinstance(dataset, Dataset)
    yield DatasetReady(dataset_facts(dataset))
    recorded = recorded_facts(file.weights.path, file.weights.metadata)
    check_class_order(file.weights.path, recorded, dataset.classes, dataset.name)
    test = DeviceImages(dataset.test, dataset, device)
    recognised, config = file.model, experiment.teacher
    takes = model_input(config.model_copy(update={"weights": None}), dataset.image_format)
    teacher = freeze(
        model.to(device).to(memory_format=torch.channels_last),
        device,
        precision=experiment.precision,
        num_classes=recognised.classes,
        model_input=takes,
    )
    measured = measure_teacher(teacher, recognised.model, recognised.options, test)
    facts = measured | _file_facts(file, dataset, takes)
    path = save_imported(cache, _key(teacher, recognised, dataset), recognised.state, facts)
    notes = differences(recorded, dataset, takes.own) + chance_notes(facts)
    return ImportedTeacher(path, facts | {"key": path.parent.name}, notes)


def _build_model(file: TeacherFile, experiment: Experiment) -> Classifier:
    """Return the model with the file's weights. Raises UserError if the images do not fit."""
    recognised, images = file.model, images_of(experiment)
    error = images_error(file.weights.path, recognised, images, experiment.dataset.name)
    if error is not None:
        raise error
    counts = recognised.classes, recognised.channels
    model = build_model(recognised.model, *counts, images.size, recognised.options)
    load_fitted(model, recognised.state)
    check_forward(recognised.model, model, plain_format(images.channels, images.size))
    return model


def _file_facts(file: TeacherFile, dataset: Dataset, takes: ModelInput) -> dict[str, Any]:
    return {
        "classes": file.model.classes,
        **preprocessing_facts(dataset, takes),
        "dataset": dataset.name,
        "sha256": file.sha256,
        "file": file.weights.path.name,
        "weights": file.weights.key,
        "ema": file.weights.ema,
        "rkkd": __version__,
        "torch": torch.__version__,
        "imported": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _key(teacher: Teacher, recognised: RecognisedModel, dataset: Dataset) -> str:
    """Return the key: a hash of the weights, in whatever file, the model and the images."""
    parts: list[Any] = [teacher.fingerprint, recognised.model, dataset.fingerprint]
    parts += [dict(recognised.options)] if recognised.options else []
    parts += [] if teacher.input.is_same else [teacher.input.own]
    return IMPORTED_PREFIX + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
