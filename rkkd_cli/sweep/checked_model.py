"""The checks of a model that an experiment describes: its images, and its first weights."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from rkkd_cli.config.experiment import Experiment, TeacherConfig, TrainingConfig
from rkkd_cli.config.models import ModelConfig
from rkkd_cli.config.tasks import detector_kind
from rkkd_cli.config.value_lists import value_text
from rkkd_cli.data.catalogue import DatasetInfo
from rkkd_cli.data.model_input import ImageFormat, ModelInput, plain_format
from rkkd_cli.errors import UserError
from rkkd_cli.models import MODELS, Classifier
from rkkd_cli.models.checkpoint.layout import CheckpointWeights, read_weights
from rkkd_cli.models.checkpoint.load import ReplacedHead
from rkkd_cli.models.checkpoint.recognise import ImageSpec
from rkkd_cli.models.detection.detector import Detector
from rkkd_cli.models.detection.first_weights import replaced_before_download
from rkkd_cli.models.detection.published import read_detector_file
from rkkd_cli.models.first_weights import WeightsSource
from rkkd_cli.sweep.teacher_fit import explain_misfit, format_size, naming_teacher
from rkkd_cli.train.configured_model import (
    load_weights,
    model_input,
    new_model,
    weights_source,
)
from rkkd_cli.train.teacher.preprocessing import check_class_order, check_same_classes
from rkkd_cli.train.teacher.safetensors_files import (
    metadata_fact,
    options_in_metadata,
    recorded_facts,
)
from rkkd_cli.train.teacher.training import required_recipe


class CheckedModel(NamedTuple):
    """A model that an experiment describes, its input, and the weights that it begins with.

    ``source`` is where they come from. ``replaced_head`` is what of the model they do not have, as
    far as that is known before a download. The input is that for pixels in [0, 1] if the dataset's
    own normalisation is not known yet.
    """

    model: Classifier
    input: ModelInput
    source: WeightsSource | None
    classes: int
    replaced_head: ReplacedHead | None


Models = Mapping[ModelConfig, CheckedModel]


def check_model(config: ModelConfig, experiment: Experiment, dataset: DatasetInfo) -> CheckedModel:
    """Return the model with its first weights. Raises UserError if they or the images do not fit.

    The weights are not loaded if they have to be downloaded.
    """
    images = plain_format(dataset.in_channels, dataset.size)
    mean, std = experiment.dataset.mean, experiment.dataset.std
    takes = model_input(config, images._replace(mean=mean or images.mean, std=std or images.std))
    source = weights_source(config)
    is_here = source is not None and source.is_here
    classes, names, loaded = dataset.num_classes, dataset.class_names, None
    try:
        model = new_model(config, classes, takes.own)
        check_forward(config.model, model, takes.own)
        if is_here:
            loaded = load_weights(model, config, classes, takes.own, names)
    except UserError as error:
        if source is None or not is_here:
            raise
        if detector_kind(config.model) is not None:
            check_detector_file(read_detector_file(source.path), config)
            raise
        _check_stated_options(read_weights(source.path), config)
        spec = ImageSpec(dataset.num_classes, takes.own.channels, takes.own.size)
        raise explain_misfit(error, source.path, config, spec, experiment.dataset.name) from None
    if loaded is not None:
        head = loaded.replaced_head
        if detector_kind(config.model) is None:
            _check_stated_options(loaded.weights, config)
        elif head is None:
            check_detector_file(loaded.weights, config)
            _check_categories(loaded.weights, config, dataset, experiment.dataset.name)
    else:
        head = None if source is None else _replaced_before_download(source, config, dataset)
    return CheckedModel(model, takes, source, classes, head)


def _replaced_before_download(
    source: WeightsSource, config: ModelConfig, dataset: DatasetInfo
) -> ReplacedHead | None:
    """Return what of the model published weights will not have, as far as that is known."""
    if detector_kind(config.model) is not None:
        return replaced_before_download(source, config.model, dataset.class_names)
    published = source.published
    if published is None or published.classes == dataset.num_classes:
        return None
    return ReplacedHead("", published.classes, dataset.num_classes)


def check_detector_file(weights: CheckpointWeights, config: ModelConfig) -> None:
    """Raise UserError for a file that states another detector, or one with other options."""
    stated = metadata_fact(weights.metadata, "model") or ""
    if detector_kind(stated) is None:
        return
    if stated != config.model:
        raise UserError(
            f"checkpoint {weights.path} holds a {stated}, not a {config.model}; add "
            f"--{config.role} {stated}"
        )
    _check_stated_options(weights, config)


def _check_categories(
    weights: CheckpointWeights, config: ModelConfig, dataset: DatasetInfo, name: str
) -> None:
    """Raise UserError for a teacher whose file states other categories than the dataset's."""
    if config.role != TeacherConfig.role:
        return
    recorded = recorded_facts(weights.path, weights.metadata)
    check_class_order(weights.path, recorded, dataset.class_names, name)
    check_same_classes(weights.path, recorded, dataset.class_names, name)


def _check_stated_options(weights: CheckpointWeights, config: ModelConfig) -> None:
    """Raise UserError for a file that states other options than the model's."""
    stated = options_in_metadata(weights.metadata)
    if stated and stated != config.given_options:
        typed = " ".join(f"{config.role}.options.{n}={value_text(v)}" for n, v in stated.items())
        raise UserError(
            f"checkpoint {weights.path} is of a model with other options than the "
            f"{config.role}'s, {config.described}; add {typed}"
        )


def check_forward(name: str, model: Classifier, own: ImageFormat) -> None:
    """Raise UserError if the model cannot take images of its own size."""
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(2, own.channels, *own.size))
    except RuntimeError:
        raise UserError(
            f"model {name} cannot take {format_size(own.size)} images: they become smaller than "
            "one pixel; use a larger image_size, that of the dataset or of the model, or another "
            f"of {', '.join(MODELS)}"
        ) from None


def check_regions(arm: str, student: Classifier, teacher: Classifier) -> None:
    """Raise UserError for a detector that cannot read the places of its teacher."""
    if not (isinstance(student, Detector) and isinstance(teacher, Detector)):
        return
    if student.region_space != teacher.region_space:
        raise UserError(
            f"arm {arm}: student and teacher are compared anchor by anchor, and theirs differ; "
            "give both the same anchor_sizes, anchor_scales and aspect_ratios, on backbones of the "
            "same strides"
        )


def missing_weights(experiment: Experiment) -> list[WeightsSource]:
    """Return the published weights of an experiment that have to be downloaded.

    Raises UserError for weights that there are not.
    """
    sources: dict[ModelConfig, WeightsSource | None] = {}
    for arm in (arm.experiment for arm in experiment.resolved_arms):
        for name, teacher in arm.named_teachers.items():
            if teacher not in sources:
                with naming_teacher(arm, name):
                    sources[teacher] = weights_source(teacher)
        if arm.student not in sources:
            sources[arm.student] = weights_source(arm.student)
    return [source for source in sources.values() if source is not None and not source.is_here]


def teacher_recipe(experiment: Experiment, teacher: CheckedModel) -> TrainingConfig | None:
    """Return the teacher's recipe, or None if its weights are used as they are."""
    head = teacher.replaced_head
    return None if teacher.source and head is None else required_recipe(experiment, head)
