"""Accuracy and terms on a whole split, in eval mode and without augmentation."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rkkd_cli.data.stream import DeviceImages
from rkkd_cli.methods.objective import Objective
from rkkd_cli.models.shapes import in_eval_mode
from rkkd_cli.train.device import autocast
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.events import Tick
from rkkd_cli.train.metrics.batch import CORRECT, MEANS, measure
from rkkd_cli.train.metrics.meters import EpochMeters

EVALUATION_BATCH = 500
SPLIT_CORRECT = CORRECT[1:]  # a held-out split has no column of agreement


class TaughtSplit(NamedTuple):
    """A held-out split, or a rank's part of it, and the teacher's logits (N, C) on it.

    The logits stay on the device in float32 whatever becomes of the images: of ImageNet's 50,000
    images 200 MB. ``batches`` are those of the longest part, where it is one.
    """

    images: DeviceImages
    teacher_logits: Tensor
    batches: int = 0


class Evaluated(NamedTuple):
    """A student and what its arm optimises."""

    model: nn.Module
    objective: Objective


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into eval mode without gradient, and back into its former mode."""
    with in_eval_mode(model), torch.no_grad():
        yield


def all_logits(model: nn.Module, split: DeviceImages, precision: str) -> Tensor:
    """Return the logits (N, C) of every image of the split."""
    with evaluating(model), autocast(split.device, precision):
        batches = split.in_order(EVALUATION_BATCH)
        return torch.cat([model(batch.images).float() for batch in batches])


def accuracy(model: nn.Module, split: DeviceImages, precision: str) -> float:
    """Return the model's top-1 accuracy on the split, in percent."""
    correct = all_logits(model, split, precision).argmax(dim=1) == split.labels
    return 100 * int(correct.sum()) / len(correct)


def evaluate(
    students: Sequence[Evaluated],
    split: TaughtSplit,
    precision: str,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> Generator[Tick, None, list[EpochMeters]]:
    """Return each student's totals of terms, τ-b and accuracies over all ranks.

    All see a batch before the next one is read. Yields a moment to leave for each of them, on
    every rank as often.
    """
    meters = [EpochMeters(MEANS, SPLIT_CORRECT, split.images.device) for _ in students]
    batches = 0
    for batch in split.images.in_order(EVALUATION_BATCH):
        teacher, batches = split.teacher_logits[batch.indices], batches + 1
        for (model, objective), own in zip(students, meters, strict=True):
            with evaluating(model), autocast(own.device, precision):
                student = model(batch.images)
            measured = measure([objective], student[None], teacher, batch.labels)
            own.add_row(measured.means[0], measured.correct[0, 1:], len(batch.labels))
            yield Tick()
    for _ in range(len(students) * (split.batches - batches)):
        yield Tick()
    for own in meters:
        own.reduce(process_group)
    return meters
