"""Batches of P classes × K images: so many images of each of so many classes.

As metric learning trains (Hermans et al., arXiv 1703.07737), since in a shuffled batch of many
classes hardly two images would have the same one.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class PerClass(NamedTuple):
    """A batch's images per class, and an epoch's batches; None: as many as the images fill."""

    per_class: int
    batches: int | None = None


def per_class(count: int | None, batches: int | None) -> PerClass | None:
    """Return how batches are drawn by class, or None if they are shuffled: without a count."""
    return None if count is None else PerClass(count, batches)


class ClassBatches:
    """Draws batches of ``batch_size`` images, ``per_class`` of each of their classes.

    A batch's classes are drawn without replacement from all classes of ``labels`` (N,), and a
    class' images from all of that class. A class of too few images has each of them as often as the
    others, or once more. The images of a batch are shuffled: what acts on a part of it, as mixing,
    BatchNorm or one of several ranks, finds many classes there.
    """

    def __init__(self, labels: NDArray[np.int64], batch_size: int, per_class: int) -> None:
        self.batch_size, self.per_class = batch_size, per_class
        order = np.argsort(labels, kind="stable")
        _, starts = np.unique(labels[order], return_index=True)
        self.images = [torch.from_numpy(part) for part in np.split(order, starts[1:])]
        assert batch_size // per_class <= len(self.images), "a batch needs more classes"

    def draw(self, batches: int, generator: torch.Generator) -> Tensor:
        """Return the images of so many batches, one batch after another: indices of ``labels``."""
        return torch.cat([self._batch(generator) for _ in range(batches)])

    def _batch(self, generator: torch.Generator) -> Tensor:
        classes = torch.randperm(len(self.images), generator=generator)
        chosen = classes[: self.batch_size // self.per_class].tolist()
        images = torch.cat([self._images_of(number, generator) for number in chosen])
        return images[torch.randperm(len(images), generator=generator)]

    def _images_of(self, number: int, generator: torch.Generator) -> Tensor:
        images = self.images[number]
        rounds = -(-self.per_class // len(images))
        drawn = [torch.randperm(len(images), generator=generator) for _ in range(rounds)]
        return images[torch.cat(drawn)[: self.per_class]]
