"""Accuracy and terms on a whole split, in eval mode and without augmentation."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rkkd_cli.data.stream import DeviceImages
from rkkd_cli.methods.objective import Objective
from rkkd_cli.models.dry_run import in_eval_mode
from rkkd_cli.train.device import autocast
from rkkd_cli.train.events import Tick
from rkkd_cli.train.metrics import HITS, MEANS, measure
from rkkd_cli.train.ranks import ALONE, Ranks
from rkkd_cli.train.totals import Totals

EVALUATION_BATCH = 500
SPLIT_HITS = HITS[1:]  # a held-out split has no column of agreement


class TaughtSplit(NamedTuple):
    """A held-out split, or a rank's part of it, and the teacher's logits (N, C) on it.

    ``batches`` are those of the longest part, where it is one.
    """

    images: DeviceImages
    teacher_logits: Tensor
    batches: int = 0


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
    hits = all_logits(model, split, precision).argmax(dim=1) == split.labels
    return 100 * int(hits.sum()) / len(hits)


def evaluate(
    model: nn.Module,
    objective: Objective,
    split: TaughtSplit,
    precision: str,
    ranks: Ranks = ALONE,
) -> Generator[Tick, None, Totals]:
    """Return the totals of terms, τ-b and accuracies over all ranks.

    Yields a moment to leave for each batch, on every rank as often.
    """
    totals = Totals(MEANS, SPLIT_HITS, split.images.device)
    done = 0
    for batch in split.images.in_order(EVALUATION_BATCH):
        teacher = split.teacher_logits[done : done + len(batch.labels)]
        with evaluating(model), autocast(totals.device, precision):
            student = model(batch.images)
        measured = measure([objective], student[None], teacher, batch.labels)
        totals.add_row(measured.means[0], measured.hits[0, 1:], len(batch.labels))
        done += len(batch.labels)
        yield Tick()
    for _ in range(split.batches - -(-done // EVALUATION_BATCH)):
        yield Tick()
    totals.reduce(ranks)
    return totals
