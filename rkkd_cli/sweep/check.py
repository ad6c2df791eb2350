"""Everything that can be found wrong before anything is read, trained or written."""

from pathlib import Path
from typing import NamedTuple

import torch

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.catalogue import DatasetRequest, Shape, peek
from rkkd_cli.errors import UserError
from rkkd_cli.methods import build_objective
from rkkd_cli.models import MODELS, build_model, count_parameters, load_checkpoint
from rkkd_cli.sweep.jobs import StreamGroup, stream_groups
from rkkd_cli.train.device import pick_device
from rkkd_cli.train.teacher_source import required_recipe


class Checked(NamedTuple):
    """One stream group whose names, shapes and files have been found right."""

    group: StreamGroup
    shape: Shape
    parameters: dict[str, int]


def dataset_request(experiment: Experiment) -> DatasetRequest:
    """Return the experiment's dataset section in the words of ``data``."""
    return DatasetRequest(**experiment.dataset.model_dump())


def check_experiment(experiment: Experiment, cache: Path) -> list[Checked]:
    """Check device, names, folders, models and checkpoints. Raises UserError; writes nothing."""
    pick_device(experiment.device)
    return [_check_group(group, cache) for group in stream_groups(experiment)]


def _check_group(group: StreamGroup, cache: Path) -> Checked:
    for arm in group.arms:
        build_objective(arm.experiment.method, arm.experiment.rank)
    names = [group.experiment.teacher.model, *(a.experiment.student.model for a in group.arms)]
    for name in names:
        build_on_meta(name, num_classes=2, in_channels=1)
    shape = peek(dataset_request(group.experiment), cache)
    if shape.num_classes < 2:
        raise UserError(
            "the dataset has one class; distillation and its ranking loss need at least 2"
        )
    parameters = {
        name: count_parameters(build_on_meta(name, shape.num_classes, shape.in_channels))
        for name in names
    }
    _check_forward(names, shape)
    _check_teacher(group.experiment, shape)
    return Checked(group, shape, parameters)


def build_on_meta(name: str, num_classes: int, in_channels: int) -> torch.nn.Module:
    """Return a model without memory for its weights. Raises UserError for an unknown name."""
    with torch.device("meta"):
        return build_model(name, num_classes, in_channels)


def _check_forward(names: list[str], shape: Shape) -> None:
    for name in dict.fromkeys(names):
        model = build_on_meta(name, shape.num_classes, shape.in_channels).eval()
        images = torch.empty(2, shape.in_channels, *shape.size, device="meta")
        try:
            model(images)
        except RuntimeError:
            size = "×".join(str(side) for side in shape.size)
            raise UserError(
                f"model {name} cannot take {size} images: they become smaller than one pixel; "
                f"use a larger dataset.image_size or another of {', '.join(MODELS)}"
            ) from None


def _check_teacher(experiment: Experiment, shape: Shape) -> None:
    if experiment.teacher.checkpoint is None:
        required_recipe(experiment)
        return
    model = build_model(experiment.teacher.model, shape.num_classes, shape.in_channels)
    load_checkpoint(model, Path(experiment.teacher.checkpoint).expanduser())
