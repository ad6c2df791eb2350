"""Unit vectors, distances within a batch, and feature maps of one size."""

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn import functional as F

# Vectors of at most this length become zero.
MIN_NORM = 1e-12
# The smallest squared distance of two images, as in mdistiller and RepDistiller.
MIN_SQUARED_DISTANCE = 1e-12


def unit_vectors(x: Tensor, dim: int = -1) -> Tensor:
    """Return x / ‖x‖ along ``dim``; a vector of length ≤ 1e-12 becomes zero, with zero gradient.

    ``torch.nn.functional.normalize`` divides such a vector by 1e-12, which multiplies its gradient
    by 10¹².
    """
    norm = vector_norm(x, dim=dim, keepdim=True)
    has_direction = norm > MIN_NORM
    return torch.where(has_direction, x / torch.where(has_direction, norm, 1.0), 0.0)


def pairwise_distances(x: Tensor) -> Tensor:
    """Return the distances (B, B) between the rows of x (B, D).

    Squared distances of different rows are at least 1e-12; where they are raised to it, they have
    no gradient. The diagonal is 0.
    """
    # Distances do not depend on the origin. Centred rows lose less to cancellation below.
    x = x - x.detach().mean(dim=0)
    squares = x.square().sum(dim=1)
    squared = (squares[:, None] + squares[None, :] - 2 * x @ x.T).clamp(min=MIN_SQUARED_DISTANCE)
    others = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    return torch.where(others, squared.sqrt(), 0.0)


def similarity_rows(x: Tensor) -> Tensor:
    """Return −‖x_i − x_j‖² for all j ≠ i, in the order of j: (…, B, B − 1) of x (…, B, D)."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    x = x - x.detach().mean(dim=-2, keepdim=True)  # as in pairwise_distances
    squares = x.square().sum(dim=-1)
    squared = squares[..., :, None] + squares[..., None, :] - 2 * x @ x.mT
    *more, batch, _ = squared.shape
    # Without its first number the flattened square has the diagonal at the end of rows of B + 1.
    rest = -squared.clamp(min=0).flatten(-2)[..., 1:]
    return rest.reshape(*more, batch - 1, batch + 1)[..., :-1].reshape(*more, batch, batch - 1)


def match_sizes(student_map: Tensor, teacher_map: Tensor) -> tuple[Tensor, Tensor]:
    """Return both feature maps (B, D, H, W), average-pooled to the smaller height and width.

    The pooling is adaptive. A map that already has this size is returned as it is.
    """
    height, width = (min(student_map.shape[dim], teacher_map.shape[dim]) for dim in (2, 3))
    student, teacher = (
        x if x.shape[2:] == (height, width) else F.adaptive_avg_pool2d(x, (height, width))
        for x in (student_map, teacher_map)
    )
    return student, teacher
