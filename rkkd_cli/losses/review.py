"""ReviewKD's hierarchical context loss: maps compared at several sizes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import paired_alike, paired_maps

# The pooled sizes; those not below the map's height are left out.
SIZES = (4, 2, 1)


def hierarchical_context_loss(
    student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]
) -> Tensor:
    """Return the sum over the stages of a weighted mean of mean squared errors.

      L = Σ_stages (MSE(s, t) + Σ_{i ≥ 1} 2⁻ⁱ · MSE(pool s, pool t)) / (1 + Σ_{i ≥ 1} 2⁻ⁱ)

    with the maps averaged down to 4 × 4, 2 × 2 and 1 × 1, as far as these are smaller than the
    map's height; i counts those that are. The gradient goes to the student only.

    Args:
        student_maps: (B, D, H, W) of each stage, fused and projected to the teacher's shape.
        teacher_maps: of the same shapes, in the same order.

    Raises:
        ValueError: there is no stage, their numbers differ, or the shapes of one do.

    Source: Chen et al., arXiv 2104.09044; as in mdistiller.

    """
    if not student_maps or len(student_maps) != len(teacher_maps):
        raise ValueError(
            "the student and the teacher must have equally many stages, at least one; got "
            f"{len(student_maps)} and {len(teacher_maps)}"
        )
    stages = [_stage(s, t) for s, t in zip(student_maps, teacher_maps, strict=True)]
    return torch.stack(stages).sum()


def _stage(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    student, teacher = paired_maps(*paired_alike(student_map, teacher_map))
    loss, total, weight = F.mse_loss(student, teacher), 1.0, 1.0
    # Pooling is linear: the difference is pooled once instead of both maps.
    difference = student - teacher
    for size in SIZES:
        if size < student.shape[2]:
            weight /= 2
            total += weight
            loss = loss + weight * F.adaptive_avg_pool2d(difference, size).square().mean()
    return loss / total
