"""Why a teacher's checkpoint does not fit the experiment, in words for the user."""

from pathlib import Path

from rkkd_cli.config.experiment import Experiment, TeacherConfig
from rkkd_cli.data.catalogue import DatasetInfo
from rkkd_cli.errors import UserError
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


def explain_misfit(
    misfit: UserError, path: Path, experiment: Experiment, dataset: DatasetInfo
) -> UserError:
    """Return the error, or one that names the model or the image size of the file."""
    name = experiment.teacher.model
    images = ImageSpec(dataset.num_classes, dataset.in_channels, dataset.size)
    try:
        weights = read_weights(path)
    except UserError:
        return misfit
    try:
        recognised = _as_library_model(weights, experiment.teacher, images) or recognise(
            weights, None, images
        )
    except UserError:
        if name not in MODELS:
            return misfit
        return UserError(
            f"{misfit}; if it is no {name}, say which model it is with --teacher, such as "
            "--teacher torchvision:NAME or timm:NAME"
        )
    if recognised.model == name:
        return images_error(path, recognised, experiment.dataset.name, dataset) or misfit
    return UserError(
        f"checkpoint {path} is of another architecture: it holds a {recognised.model}, not a "
        f"{name}; add --teacher {recognised.model}"
    )


def _as_library_model(
    weights: CheckpointWeights, teacher: TeacherConfig, images: ImageSpec
) -> RecognisedModel | None:
    """Return the weights as those of a model outside the zoo, which a search might not find."""
    if teacher.model in MODELS:
        return None
    try:
        return recognise(weights, teacher.model, images, options=teacher.given_options)
    except UserError:
        return None


def images_error(
    path: Path, recognised: RecognisedModel, dataset_name: str, dataset: DatasetInfo
) -> UserError | None:
    """Return the error for a model that takes other images than the dataset's, if it does."""
    way_out = "name its dataset with --dataset, or a preset of it"
    if recognised.classes != dataset.num_classes:
        return UserError(
            f"checkpoint {path} was trained on {recognised.classes} classes, the dataset "
            f"{dataset_name} has {dataset.num_classes}; {way_out}"
        )
    if recognised.channels != dataset.in_channels:
        if dataset_name == "folder":
            way_out = (
                "a folder is read in colour, grey images too: use a teacher of 3 channels, or give "
                "grey images by a dataset function of your own (--dataset package.module:name)"
            )
        return UserError(
            f"checkpoint {path} takes images of {recognised.channels} channels, those of the "
            f"dataset {dataset_name} have {dataset.in_channels}; {way_out}"
        )
    return _image_size_error(path, recognised, dataset_name, dataset)


def _image_size_error(
    path: Path, recognised: RecognisedModel, dataset_name: str, dataset: DatasetInfo
) -> UserError | None:
    """Return the error for weights with positional embeddings of another size, if they are such."""
    if not depends_on_size(recognised.model):
        return None
    try:
        counts = recognised.classes, recognised.channels
        expected = meta_state_dict(
            recognised.model, *counts, dataset.size, tuple(recognised.options.items())
        )
    except ValueError:  # the model cannot be built for such images
        expected = {}
    if same_shapes(expected, recognised.state):
        return None
    trained = trained_size(recognised)
    was = "another size" if trained is None else format_size(trained)
    side = "that" if trained is None else trained[0]
    return UserError(
        f"checkpoint {path} holds a {recognised.model} trained on images of {was}, and has their "
        f"positional embeddings; the images of the dataset {dataset_name} are "
        f"{format_size(dataset.size)}: use an image folder with dataset.image_size={side}"
    )


def format_size(size: tuple[int, int]) -> str:
    """Return a height and width as ``32×32``."""
    return f"{size[0]}×{size[1]}"
