"""The checks of an experiment before anything is read, trained or written."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.cache_modes import kept_classes
from rkkd_cli.config.experiment import (
    Experiment,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
)
from rkkd_cli.config.models import ModelConfig
from rkkd_cli.config.tasks import detector_kind
from rkkd_cli.data.catalogue import DatasetInfo, has_image_files
from rkkd_cli.data.strong_augment import StrongView
from rkkd_cli.errors import UserError
from rkkd_cli.files import write_problem
from rkkd_cli.losses.channels import ALL, parse_channels
from rkkd_cli.methods import Method, ModelPair, build_objective, check_settings
from rkkd_cli.models import check_model_name, count_parameters
from rkkd_cli.models.detection.build import check_detector_name
from rkkd_cli.sweep.batches import check_classes, smallest_batch
from rkkd_cli.sweep.checked_model import (
    CheckedModel,
    Models,
    check_model,
    check_regions,
    teacher_recipe,
)
from rkkd_cli.sweep.datasets import inspect
from rkkd_cli.sweep.jobs import group_by_stream
from rkkd_cli.sweep.teacher_fit import check_targets, naming_teacher
from rkkd_cli.sweep.tried_steps import check_losses
from rkkd_cli.tasks import task_for
from rkkd_cli.train.configured_model import weights_source

RESIDENT_COPIES = 2  # of the decoded images: as they are read, and padded for random crops


class CheckedStream(NamedTuple):
    """Arms that share a stream and have passed the checks.

    ``parameters`` of their models by name, options included; ``objectives`` of the arms by name, in
    one line each. ``recipes`` are those by which teachers are trained, unless they are cached; a
    teacher without one has weights that are used as they are.
    """

    arms: tuple[Arm, ...]
    dataset: DatasetInfo
    parameters: dict[str, int]
    objectives: dict[str, str]
    models: Models
    recipes: Mapping[TeacherConfig, TrainingConfig]

    @property
    def experiment(self) -> Experiment:
        """What the arms share: dataset, teacher, batch size, epochs, precision."""
        return self.arms[0].experiment


def check_experiment(experiment: Experiment, cache: Path) -> list[CheckedStream]:
    """Check names, folders, models, losses and checkpoints. Raises UserError; writes nothing."""
    check_cache(cache)
    return [_check_stream(arms) for arms in group_by_stream(experiment.resolved_arms)]


def check_cache(cache: Path) -> None:
    """Raise UserError if nothing can be written to the cache."""
    problem = write_problem(cache)
    if problem:
        raise UserError(f"cannot write to the cache {cache}: {problem}; set RKKD_CACHE to a folder")


def check_device(experiment: Experiment, device: torch.device) -> None:
    """Raise UserError for a setting that needs CUDA, on another device."""
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
    teachers = experiment.named_teachers
    students = list(dict.fromkeys(arm.experiment.student for arm in arms))
    for name, config in teachers.items():
        with naming_teacher(experiment, name):
            _check_names(config)
    for student in students:
        with _naming_arm(arms, student):
            _check_names(student)
    dataset = inspect(experiment)
    _check_memory(experiment, dataset)
    if dataset.num_classes < 2:
        raise UserError(
            "the dataset has one class; distillation and its ranking loss need at least 2"
        )
    check_classes(experiment, dataset)
    for arm in arms:
        if arm.experiment.training.selects_by and not dataset.val_images:
            raise UserError(arm.experiment.training.no_validation_images)
    models: dict[ModelConfig, CheckedModel] = {}
    for name, config in teachers.items():
        with naming_teacher(experiment, name):
            models[config] = check_model(config, experiment, dataset)
    for student in students:
        with _naming_arm(arms, student):
            models[student] = check_model(student, experiment, dataset)
    for arm in arms:
        pair = arm.experiment.student, arm.experiment.teacher
        check_regions(arm.name, *(models[one].model for one in pair))
    objectives = {arm.name: _check_method(arm, models, dataset) for arm in arms}
    recipes = _checked_recipes(experiment, models, dataset)
    check_losses(arms, models, dataset)
    parameters = {one.described: count_parameters(models[one].model) for one in models}
    return CheckedStream(arms, dataset, parameters, objectives, models, recipes)


@contextmanager
def _naming_arm(arms: Sequence[Arm], student: StudentConfig) -> Iterator[None]:
    """Let a UserError begin with the first arm that has the student, unless all have it."""
    having = [arm.name for arm in arms if arm.experiment.student == student]
    try:
        yield
    except UserError as error:
        if len(having) == len(arms):
            raise
        raise UserError(f"arm {having[0]}: {error}") from None


def _check_names(config: ModelConfig) -> None:
    """Raise UserError for a model or weights that there are not."""
    if detector_kind(config.model) is None:
        check_model_name(config.model, config.given_options)
    else:
        check_detector_name(config.model)
    weights_source(config)


def _checked_recipes(
    experiment: Experiment, models: Models, dataset: DatasetInfo
) -> dict[TeacherConfig, TrainingConfig]:
    """Return the recipes of the teachers that are trained.

    Raises UserError if a teacher has none and needs it, or cannot be trained with it.
    """
    recipes = {}
    for name, config in experiment.named_teachers.items():
        alone = experiment.taught_by(name)
        with naming_teacher(experiment, name):
            recipe = teacher_recipe(alone, models[config])
            if recipe is not None:
                _check_teacher_batch(alone, recipe, models[config], dataset)
                recipes[config] = recipe
    return recipes


def _check_memory(experiment: Experiment, dataset: DatasetInfo) -> None:
    """Raise UserError if the images of a folder do not fit into memory and are not streamed."""
    if dataset.streamed or not has_image_files(experiment.dataset.name):
        return
    needed, free = RESIDENT_COPIES * dataset.decoded_bytes, psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"the decoded images of {experiment.dataset.root} take {needed / 1e9:.1f} GB of "
            f"memory, of which {free / 1e9:.1f} GB are free; read them from the disk batch by "
            "batch with --stream, or make them smaller with dataset.image_size"
        )


def _check_method(arm: Arm, models: Models, dataset: DatasetInfo) -> str:
    """Return the arm's objective in one line.

    Raises UserError if its method does not fit its models or the images.
    """
    experiment = arm.experiment
    check_settings(experiment.method)
    student, teacher = models[experiment.student], models[experiment.teacher]
    own, theirs = student.input.own, teacher.input.own
    labels = torch.zeros(dataset.train_images, dtype=torch.int64)
    with torch.device("meta"):
        models_seen = student.model, teacher.model, own.channels, own.size, labels, theirs.size
        pair = ModelPair(*models_seen, experiment.task)
        hard = task_for(experiment).hard_term(experiment.training)
        objective = build_objective(experiment.method, experiment.rank, pair, hard)
    method = objective.method
    check_targets(arm, objective)
    if method.needs_strong_view:
        StrongView(dataset.in_channels)
    if experiment.cache_teacher != "off":
        _check_cached_outputs(arm, method, dataset.num_classes)
    return objective.text(experiment.training.epochs)


def _check_cached_outputs(arm: Arm, method: Method, classes: int) -> None:
    """Raise UserError if the arm reads more of the teacher than ``cache_teacher`` keeps."""
    experiment, mode = arm.experiment, arm.experiment.cache_teacher
    if method.needs_features or method.needs_strong_view:
        raise UserError(
            f"method {experiment.method.name} uses more of the teacher than its logits, which "
            "are all that is cached; leave out --cache-teacher"
        )
    kept = kept_classes(mode)
    if kept is None:
        return
    if kept >= classes:
        raise UserError(
            f"cache_teacher = {mode} keeps some of the classes, and the dataset has {classes}; "
            "use cache_teacher=exact, or a smaller number"
        )
    reader = _reads_more_logits(experiment, method, kept)
    if reader is not None:
        raise UserError(
            f"arm {arm.name}: {reader} needs more than the logits of the teacher's top {kept} "
            f"classes, which is what cache_teacher = {mode} keeps; use cache_teacher=exact"
        )


def _reads_more_logits(experiment: Experiment, method: Method, kept: int) -> str | None:
    """Return what of an arm reads more than the teacher's top logits and the mass of the rest."""
    rank, channels = experiment.rank, parse_channels(experiment.rank.channels)
    of_teacher = channels.largest and not channels.both
    # A share would be one of the kept classes here, and one of all classes on held-out images.
    are_kept = channels == ALL or (of_teacher and 1 < channels.amount <= kept)
    readers = {
        f"method {experiment.method.name}": bool(method.terms),
        "method.standardize_logits": experiment.method.standardize_logits,
        "rank.standardize": rank.standardize,
        f"rank.over = {rank.over}": rank.over != "classes",
        f"rank.channels = {rank.channels}": not are_kept,
    }
    return next((reader for reader, reads_all in readers.items() if reads_all), None)


def _check_teacher_batch(
    experiment: Experiment, recipe: TrainingConfig, teacher: CheckedModel, dataset: DatasetInfo
) -> None:
    """Raise UserError if the teacher would be trained on a batch of one image, and cannot be."""
    own = teacher.input.own
    if smallest_batch(recipe, dataset.train_images) > 1:
        return
    try:
        deepcopy(teacher.model).train()(torch.zeros(1, own.channels, *own.size))
    except ValueError as error:
        raise UserError(
            f"teacher {experiment.teacher.model} cannot train on a batch of one image: {error}; "
            "give another teacher.training.batch_size, or teacher.training.last_batch=merge"
        ) from None
