"""Directions of vectors and sizes of maps, where a zero vector must not end in NaN."""

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn import functional as F

# Shorter vectors have no direction.
SHORTEST = 1e-12


def unit_vectors(x: Tensor, dim: int = -1) -> Tensor:
    """Return x / ‖x‖ along ``dim``; a vector of at most 1e-12 becomes zero, with zero gradient.

    torch's ``normalize`` divides by 1e-12 there, which turns any gradient into one of 10¹².
    """
    norm = vector_norm(x, dim=dim, keepdim=True)
    directed = norm > SHORTEST
    return torch.where(directed, x / torch.where(directed, norm, 1.0), 0.0)


def match_sizes(student_map: Tensor, teacher_map: Tensor) -> tuple[Tensor, Tensor]:
    """Return both (B, D, H, W) averaged down to the smaller height and the smaller width.

    Adaptive average pooling; a map that has the size already comes back as it is.
    """
    height, width = (min(student_map.shape[dim], teacher_map.shape[dim]) for dim in (2, 3))
    student, teacher = (
        x if x.shape[2:] == (height, width) else F.adaptive_avg_pool2d(x, (height, width))
        for x in (student_map, teacher_map)
    )
    return student, teacher
