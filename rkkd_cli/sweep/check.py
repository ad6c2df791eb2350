"""Everything that can be found wrong before anything is read, trained or written.

Among it: a teacher that holds positions, on images of another size than it was trained on.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.catalogue import DatasetRequest, Shape, peek
from rkkd_cli.data.stream import Batch
from rkkd_cli.data.strong_augment import StrongView
from rkkd_cli.errors import UserError
from rkkd_cli.files import write_problem
from rkkd_cli.methods import ModelPair, build_objective, check_settings
from rkkd_cli.models import (
    MODELS,
    Classifier,
    build_model,
    check_model_name,
    count_parameters,
    load_checkpoint,
)
from rkkd_cli.models.checkpoint.layout import Weights, read_weights
from rkkd_cli.models.checkpoint.recognise import (
    Images,
    Recognised,
    recognise,
    same_shapes,
    trained_size,
)
from rkkd_cli.models.checkpoint.skeleton import blank, depends_on_size
from rkkd_cli.sweep.jobs import grouped
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.taught_batch import feature_needs, run_teacher
from rkkd_cli.train.teacher.model import freeze
from rkkd_cli.train.teacher.training import required_recipe

RESIDENT_COPIES = 2  # of the decoded images: as they were read, and padded for their crops


class CheckedStream(NamedTuple):
    """Arms that share a stream, whose names, shapes, losses and files have been found right."""

    arms: tuple[Arm, ...]
    shape: Shape
    parameters: dict[str, int]

    @property
    def experiment(self) -> Experiment:
        """What the arms share: dataset, teacher, batch size, epochs, precision."""
        return self.arms[0].experiment


def dataset_request(experiment: Experiment) -> DatasetRequest:
    """Return the experiment's dataset section in the words of ``data``."""
    return DatasetRequest(**experiment.dataset.model_dump(), decoders=experiment.decoders)


def check_experiment(experiment: Experiment, cache: Path) -> list[CheckedStream]:
    """Check names, folders, models, losses and checkpoints. Raises UserError; writes nothing."""
    problem = write_problem(cache)
    if problem:
        raise UserError(f"cannot write to the cache {cache}: {problem}; set RKKD_CACHE to a folder")
    return [_check_stream(arms) for arms in grouped(experiment.resolved_arms)]


def check_device(experiment: Experiment, device: torch.device) -> None:
    """Raise UserError for what only CUDA does, on another device."""
    if device.type == "cuda":
        return
    if any(arm.experiment.precision == "tf32" for arm in experiment.resolved_arms):
        raise UserError(
            f"precision tf32 is CUDA's, and this is {device.type}; use --precision fp32 or bf16"
        )
    if experiment.cuda_graph:
        raise UserError(
            f"a CUDA graph needs a CUDA device, and this is {device.type}; leave out --cuda-graph"
        )


def _check_stream(arms: tuple[Arm, ...]) -> CheckedStream:
    experiment = arms[0].experiment
    names = [experiment.teacher.model, *(arm.experiment.student.model for arm in arms)]
    for name in dict.fromkeys(names):
        check_model_name(name)
    shape = peek(dataset_request(experiment))
    _check_memory(experiment, shape)
    if shape.num_classes < 2:
        raise UserError(
            "the dataset has one class; distillation and its ranking loss need at least 2"
        )
    models = {
        name: build_model(name, shape.num_classes, shape.in_channels, shape.size)
        for name in dict.fromkeys(names)
    }
    for name, model in models.items():
        check_forward(name, model, shape)
    for arm in arms:
        _check_method(arm, models, shape)
    _check_teacher(experiment, models[experiment.teacher.model], shape)
    _check_losses(arms, models[experiment.teacher.model], shape)
    parameters = {name: count_parameters(models[name]) for name in names}
    return CheckedStream(arms, shape, parameters)


def _check_memory(experiment: Experiment, shape: Shape) -> None:
    """Raise UserError where a folder that is to be held in memory does not fit."""
    if experiment.dataset.name != "folder" or shape.streamed:
        return
    needed, free = RESIDENT_COPIES * shape.decoded_bytes, psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"the decoded images of {experiment.dataset.root} take {needed / 1e9:.1f} GB of "
            f"memory, of which {free / 1e9:.1f} GB are free; read them from the disk batch by "
            "batch with --stream, or make them smaller with dataset.image_size"
        )


def check_forward(name: str, model: Classifier, shape: Shape) -> None:
    """Raise UserError where the model cannot take images of the dataset's size."""
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(2, shape.in_channels, *shape.size))
    except RuntimeError:
        raise UserError(
            f"model {name} cannot take {_shown(shape.size)} images: they become smaller than one "
            f"pixel; use a larger dataset.image_size or another of {', '.join(MODELS)}"
        ) from None


def _check_method(arm: Arm, models: Mapping[str, Classifier], shape: Shape) -> None:
    """Raise UserError where the arm's method does not fit its models or the images."""
    experiment = arm.experiment
    check_settings(experiment.method)
    student, teacher = models[experiment.student.model], models[experiment.teacher.model]
    labels = torch.zeros(shape.train_images, dtype=torch.int64)
    with torch.device("meta"):
        pair = ModelPair(student, teacher, shape.in_channels, shape.size, labels)
        objective = build_objective(experiment.method, experiment.rank, pair)
    if objective.method.needs_strong_view:
        StrongView(shape.in_channels)
    sees_more = objective.method.needs_features or objective.method.needs_strong_view
    if experiment.cache_teacher != "off" and sees_more:
        raise UserError(
            f"method {experiment.method.name} looks at more of the teacher than its logits, which "
            "is not kept; leave out --cache-teacher"
        )


def _check_losses(arms: Sequence[Arm], teacher_model: Classifier, shape: Shape) -> None:
    """Raise UserError for an arm that cannot take a step on two random images.

    Settings and plug-ins can be wrong in ways that only show when the loss is computed. Of arms
    that differ in weights and temperatures alone, one is tried.
    """
    cpu, (height, width) = torch.device("cpu"), shape.size
    precision = arms[0].experiment.precision
    teacher = freeze(
        deepcopy(teacher_model), cpu, precision, shape.num_classes, shape.in_channels, shape.size
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, shape.in_channels, height, width, generator=generator)
    labels = torch.arange(2)
    for arm in {_loss_key(arm): arm for arm in reversed(arms)}.values():
        try:
            student = ArmOnStream(arm, 0, teacher, labels)
            needs = feature_needs([student.objective])
            strong = images if needs.strong_view else None
            batch = Batch(images, labels, torch.arange(2), strong)
            student.step(run_teacher(teacher, batch, needs))
        except UserError:
            raise
        except Exception as error:  # a user's method may raise anything
            reason = " ".join(str(error).split()) or "no reason given"
            raise UserError(
                f"arm {arm.name}: method {arm.experiment.method.name} cannot compute its loss on "
                f"two random images: {type(error).__name__}: {reason}"
            ) from error


def _loss_key(arm: Arm) -> tuple[object, ...]:
    """Return what decides whether an arm's loss can be computed: all but weights and the like."""
    experiment, numbers = arm.experiment, {"alpha", "temperature", "ce_weight", "kl_weight"}
    method = experiment.method.model_dump_json(exclude=numbers)
    rank = experiment.rank
    return experiment.student.model, method, rank.grad, rank.surrogate, rank.channels


def _check_teacher(experiment: Experiment, model: Classifier, shape: Shape) -> None:
    if experiment.teacher.checkpoint is None:
        required_recipe(experiment)
    else:
        path = Path(experiment.teacher.checkpoint).expanduser()
        try:
            load_checkpoint(model, path)
        except UserError as error:
            raise _told_what_it_is(path, experiment, shape) or error from None


def _told_what_it_is(path: Path, experiment: Experiment, shape: Shape) -> UserError | None:
    """Return the refusal that names the model or the image size of the file, if it is another."""
    model = experiment.teacher.model
    images = Images(shape.num_classes, shape.in_channels, shape.size)
    try:
        weights = read_weights(path)
        found = _found(weights, model, images) or recognise(weights, None, images)
    except UserError:
        return None
    if found.model == model:
        return size_problem(path, found, experiment.dataset.name, shape)
    return UserError(
        f"checkpoint {path} is of another architecture: it holds a {found.model}, not a {model}; "
        f"add --teacher {found.model}"
    )


def _found(weights: Weights, model: str, images: Images) -> Recognised | None:
    """Return the weights as those of a model from elsewhere, which no search need find."""
    try:
        return recognise(weights, model, images) if model not in MODELS else None
    except UserError:
        return None


def size_problem(path: Path, found: Recognised, dataset: str, shape: Shape) -> UserError | None:
    """Return the refusal of weights that hold positions of images of another size."""
    if not depends_on_size(found.model):
        return None
    try:
        wanted = blank(found.model, found.classes, found.channels, shape.size)
    except ValueError:  # the model cannot be built for such images at all
        wanted = {}
    if same_shapes(wanted, found.state):
        return None
    trained = trained_size(found)
    was = "another size" if trained is None else _shown(trained)
    number = "that" if trained is None else trained[0]
    return UserError(
        f"checkpoint {path} holds a {found.model} trained on images of {was}, whose positions it "
        f"keeps; those of the dataset {dataset} are {_shown(shape.size)}: use an image folder with "
        f"dataset.image_size={number}"
    )


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
