"""What a method sees of a batch.

Shapes: B batch, C classes.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from rkkd_cli.models import Features


class ViewOutputs(NamedTuple):
    """Student and teacher on the same images."""

    student: Features
    teacher: Features


@dataclass(frozen=True)
class DistillInputs:
    """The outputs of student and teacher on a batch, and where training stands.

    ``indices`` (B,) are those of the images in the training set. ``strong`` is the second,
    strongly augmented view of the images, for methods that ask for one. ``epoch`` counts from 1.
    All floating-point tensors are of at least 32 bits; those of the teacher have no gradient.
    """

    student: Features
    teacher: Features
    labels: Tensor
    indices: Tensor
    epoch: int = 1
    epochs: int = 1
    strong: ViewOutputs | None = None


def logits_only(logits: Tensor) -> Features:
    """Return the features of which only the logits (B, C) are known."""
    return Features((), logits[:, :0], logits)


def in_float32(features: Features) -> Features:
    """Return the features with half precision as float32."""
    maps = tuple(_up(one) for one in features.maps)
    preacts = tuple(_up(one) for one in features.preacts)
    final = None if features.final is None else _up(features.final)
    return Features(maps, _up(features.pooled), _up(features.logits), preacts, final)


def _up(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor
