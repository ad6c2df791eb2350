"""Tries a step of every arm on random images, before anything is read, trained or written."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.catalogue import DatasetInfo
from rkkd_cli.data.on_device import AnyBatch, scenes_of
from rkkd_cli.data.stream import Batch
from rkkd_cli.data.targets import Mixed
from rkkd_cli.errors import UserError
from rkkd_cli.methods.inputs import MixedLabelsError
from rkkd_cli.sweep.batches import smallest_batch
from rkkd_cli.sweep.checked_model import CheckedModel, Models
from rkkd_cli.tasks import task_for
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.configured_model import untrained
from rkkd_cli.train.taught_batch import feature_needs
from rkkd_cli.train.teacher.model import Teacher, freeze, teach
from rkkd_cli.train.teacher.several import teachers_by_name

SCENE = 128  # pixels a side of what a detector's step is tried on; it takes any size


def check_losses(arms: Sequence[Arm], models: Models, dataset: DatasetInfo) -> None:
    """Raise UserError for an arm that cannot take a step on two random images, or on one.

    One image is tried if the smallest batch of an epoch has no more.

    Settings and plug-ins can be wrong in ways that show only when the loss is computed. Of several
    arms that differ in weights and temperatures only, one is tried.
    """
    experiment = arms[0].experiment
    teacher = teachers_by_name(
        {
            name: _frozen(models[config], experiment)
            for name, config in experiment.named_teachers.items()
        }
    )
    labels, batch = _random_batch(experiment, dataset)
    tried: set[tuple[object, ...]] = set()
    for arm in arms:
        if _loss_key(arm) in tried:
            continue
        tried.add(_loss_key(arm))
        with _naming_method(arm, len(labels)):
            student = ArmOnStream(untrained(arm, teacher.input.images), 0, teacher, labels)
            needs = feature_needs([student.objective])
            seen = batch
            if isinstance(batch, Batch) and needs.strong_view:
                seen = batch._replace(strong=batch.images)
            student.step(teach(teacher, seen, needs))


def _random_batch(experiment: Experiment, dataset: DatasetInfo) -> tuple[torch.Tensor, AnyBatch]:
    """Return random images with the labels (B,) of some classes, of a detector with objects."""
    generator = torch.Generator().manual_seed(0)
    compares = experiment.task == "embedding"  # two images of two classes each
    count = min(4 if compares else 2, smallest_batch(experiment.training, dataset.train_images))
    labels = torch.arange(count) % 2 if compares else torch.arange(count)
    shape = count, dataset.in_channels
    if experiment.task == "detection":
        sides = (min(side, SCENE) for side in dataset.size)
        images = torch.randn(*shape, *sides, generator=generator)
        return labels, scenes_of(images, dataset.num_classes)
    images, mixed = torch.randn(*shape, *dataset.size, generator=generator), None
    if experiment.dataset.mixup_alpha or experiment.dataset.cutmix_alpha:
        mixed = Mixed(labels.flip(0), torch.tensor(0.7))
    return labels, Batch(images, labels, torch.arange(count), mixed=mixed)


@contextmanager
def _naming_method(arm: Arm, count: int) -> Iterator[None]:
    """Let any error of a step on so many images be a UserError that names the arm's method."""
    method = f"arm {arm.name}: method {arm.experiment.method.name}"
    try:
        yield
    except MixedLabelsError as error:
        raise UserError(f"{method} {error}") from None
    except UserError:
        raise
    except Exception as error:  # a user's method may raise anything
        reason = " ".join(str(error).split()) or "no reason given"
        raise UserError(
            f"{method} cannot compute its loss on "
            f"{'a batch of one image' if count == 1 else f'{count} random images'}: "
            f"{type(error).__name__}: {reason}"
        ) from error


def _frozen(checked: CheckedModel, experiment: Experiment) -> Teacher:
    """Return a copy of the model as a teacher."""
    return freeze(
        deepcopy(checked.model),
        torch.device("cpu"),
        precision=experiment.precision,
        num_classes=checked.classes,
        model_input=checked.input,
        task=task_for(experiment),
    )


def _loss_key(arm: Arm) -> tuple[object, ...]:
    """Return what decides whether an arm's loss can be computed: not its weights and the like."""
    experiment, numbers = arm.experiment, {"alpha", "temperature", "ce_weight", "kl_weight"}
    method = experiment.method.model_dump_json(exclude=numbers)
    rank = experiment.rank.model_dump_json(exclude={"weight", "steepness"})
    return experiment.student, method, rank
