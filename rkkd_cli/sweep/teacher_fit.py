"""Why a teacher does not fit the experiment, in words for the user."""

from pathlib import Path

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.teachers import target_columns
from rkkd_cli.data.catalogue import DatasetInfo
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
        recognised = _as_library_model(weights, name, images) or recognise(weights, None, images)
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
    weights: CheckpointWeights, name: str, images: ImageSpec
) -> RecognisedModel | None:
    """Return the weights as those of a model outside the zoo, which a search might not find."""
    try:
        return recognise(weights, name, images) if name not in MODELS else None
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
        expected = meta_state_dict(
            recognised.model, recognised.classes, recognised.channels, dataset.size
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


def of_one_teacher(name: str, error: UserError) -> UserError:
    """Return an error about a teacher with the keys of one of several in place of the flags."""
    section = f"teachers.{name}"
    text = str(error).replace("teacher.training", f"{section}.training")
    text = text.replace("--teacher-checkpoint ", f"{section}.checkpoint=")
    return UserError(f"{section}: {text.replace('--teacher ', f'{section}.model=')}")


def format_size(size: tuple[int, int]) -> str:
    """Return a height and width as ``32×32``."""
    return f"{size[0]}×{size[1]}"
