"""Features and weights in closed form, for methods with trainable parts.

The features are those of students and a teacher with given feature shapes.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from closed_form import wave
from fill import filled
from torch import Tensor

IMAGES = 3


class Shapes(NamedTuple):
    """Shapes (D, H, W) of the maps, and the width of the pooled features."""

    maps: tuple[tuple[int, int, int], ...]
    pooled: int


STUDENT = Shapes(((4, 8, 8), (6, 8, 8), (8, 4, 4), (10, 2, 2)), 10)
TEACHER = Shapes(((4, 8, 8), (12, 8, 8), (16, 4, 4), (20, 2, 2)), 20)
# Students with maps of other sizes than the teacher's, which regressors and projectors adapt.
LARGER = Shapes(((4, 16, 16), (6, 16, 16), (8, 8, 8), (10, 4, 4)), 10)
SMALLER = Shapes(((4, 4, 4), (6, 4, 4), (8, 2, 2), (10, 1, 1)), 10)


def maps_of(shapes: Shapes, phase: float) -> list[Tensor]:
    """Return the maps (B, D, H, W), each with a gradient."""
    return [
        wave([IMAGES, *shape], phase + index).requires_grad_()
        for index, shape in enumerate(shapes.maps)
    ]


def pooled_of(shapes: Shapes, phase: float) -> Tensor:
    """Return pooled features (B, D) with a gradient."""
    return wave([IMAGES, shapes.pooled], phase + 0.4).requires_grad_()


def fill_in_order(tensors: Iterable[Tensor]) -> None:
    """Give each tensor its closed form by its index: names differ between implementations."""
    with torch.no_grad():
        for index, tensor in enumerate(tensors):
            tensor.copy_(filled(f"{index}.weight", tensor))
