"""Why weights or a teacher do not fit the experiment, in words for the user."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.models import ModelConfig
from rkkd_cli.config.teachers import target_columns
from rkkd_cli.errors import UserError
from rkkd_cli.methods import Objective
from rkkd_cli.models import MODELS
from rkkd_cli.models.checkpoint.layout import CheckpointWeights, read_weights
from rkkd_cli.models.checkpoint.recognise import (
    ImageSpec,
    RecognisedModel,
    recognise,
    same_shapes,
    trained_size,
)
from rkkd_cli.models.checkpoint.skeleton import depends_on_size, meta_state_dict

OTHER_DATASET = "name its dataset with --dataset, or a preset of it"


def explain_misfit(
    misfit: UserError, path: Path, config: ModelConfig, images: ImageSpec, dataset_name: str
) -> UserError:
    """Return the error, or one that names the model or the image size of the file."""
    name, role = config.model, config.role
    try:
        weights = read_weights(path)
    except UserError:
        return misfit
    try:
        recognised = _as_library_model(weights, config, images) or recognise(weights, None, images)
    except UserError:
        if name not in MODELS:
            return misfit
        return UserError(
            f"{misfit}; if it is no {name}, say which model it is with --{role}, such as "
            f"--{role} torchvision:NAME or timm:NAME"
        )
    if recognised.model == name:
        error = _channels_error(path, recognised, images, dataset_name)
        return error or _image_size_error(path, recognised, images, dataset_name, role) or misfit
    return UserError(
        f"checkpoint {path} is of another architecture: it holds a {recognised.model}, not a "
        f"{name}; add --{role} {recognised.model}"
    )


def _as_library_model(
    weights: CheckpointWeights, config: ModelConfig, images: ImageSpec
) -> RecognisedModel | None:
    """Return the weights as those of a model outside the zoo, which a search might not find."""
    if config.model in MODELS:
        return None
    try:
        return recognise(weights, config.model, images, options=config.given_options)
    except UserError:
        return None


def images_error(
    path: Path, recognised: RecognisedModel, images: ImageSpec, dataset_name: str
) -> UserError | None:
    """Return the error for a model that takes other images than ``images``, if it does."""
    if recognised.classes != images.classes:
        return UserError(
            f"checkpoint {path} was trained on {recognised.classes} classes, the dataset "
            f"{dataset_name} has {images.classes}; {OTHER_DATASET}"
        )
    error = _channels_error(path, recognised, images, dataset_name)
    return error or _image_size_error(path, recognised, images, dataset_name, "teacher")


def _channels_error(
    path: Path, recognised: RecognisedModel, images: ImageSpec, dataset_name: str
) -> UserError | None:
    """Return the error for a model that takes images of other channels, if it does."""
    way_out = OTHER_DATASET
    if recognised.channels != images.channels:
        if dataset_name == "folder":
            way_out = (
                "a folder is read in colour, grey images too: use a teacher of 3 channels, or give "
                "grey images by a dataset function of your own (--dataset package.module:name)"
            )
        return UserError(
            f"checkpoint {path} takes images of {recognised.channels} channels, those of the "
            f"dataset {dataset_name} have {images.channels}; {way_out}"
        )
    return None


def _image_size_error(
    path: Path, recognised: RecognisedModel, images: ImageSpec, dataset_name: str, role: str
) -> UserError | None:
    """Return the error for weights with positional embeddings of another size, if they are such."""
    if not depends_on_size(recognised.model):
        return None
    try:
        counts = recognised.classes, recognised.channels
        expected = meta_state_dict(
            recognised.model, *counts, images.size, tuple(recognised.options.items())
        )
    except ValueError:  # the model cannot be built for such images
        expected = {}
    if same_shapes(expected, recognised.state):
        return None
    trained = trained_size(recognised)
    was = "another size" if trained is None else format_size(trained)
    side = "that" if trained is None else trained[0]
    gets = f"from the dataset {dataset_name} it gets {format_size(images.size)}"
    return UserError(
        f"checkpoint {path} holds a {recognised.model} trained on images of {was}, and has their "
        f"positional embeddings; {gets}: resample its images with {role}.image_size={side}"
    )


def check_targets(arm: Arm, objective: Objective) -> None:
    """Raise UserError if the arm cannot learn from what it should of several teachers."""
    experiment, name = arm.experiment, arm.experiment.method.name
    target = experiment.method.teacher
    if target is None:
        return
    is_one = isinstance(target, str) and target in experiment.teachers
    if objective.method.needs_features and not is_one:
        raise UserError(
            f"arm {arm.name}: method {name} reads features, which several teachers cannot have in "
            f"common; set method.teacher to one of them: {', '.join(experiment.teachers)}"
        )
    taken = {*objective.method_terms} & {*target_columns(experiment.teachers)}
    for term in taken:
        raise UserError(
            f"arm {arm.name}: {term} is a term of method {name}, and the loss to the teacher "
            f"{term.partition('_')[2]}; give that teacher another name"
        )


@contextmanager
def naming_teacher(experiment: Experiment, name: str) -> Iterator[None]:
    """Have a UserError about one of several teachers say which, with its keys."""
    try:
        yield
    except UserError as error:
        if not experiment.teachers:
            raise
        raise UserError(f"teachers.{name}: {with_keys_of(name, str(error))}") from None


def with_keys_of(name: str, text: str) -> str:
    """Return a text about a teacher with the keys of one of several in place of its flags."""
    section = f"teachers.{name}"
    text = re.sub(r"(?<![\w.])teacher\.(?=[a-z])", f"{section}.", text)
    text = text.replace("--teacher-weights ", f"{section}.weights=")
    return text.replace("--teacher ", f"{section}.model=")


def format_size(size: tuple[int, int]) -> str:
    """Return a height and width as ``32×32``."""
    return f"{size[0]}×{size[1]}"
