"""ReviewKD's hierarchical context loss: feature maps compared at several sizes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import paired_maps, paired_same_shape

# The sizes that maps are pooled to, if these are smaller than the map's height.
POOLED_SIZES = (4, 2, 1)


def hierarchical_context_loss(
    student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]
) -> Tensor:
    """Return the sum over the stages of a weighted mean of mean squared errors.

      L = Σ_stages (MSE(s, t) + Σ_{i ≥ 1} 2⁻ⁱ · MSE(pool_i s, pool_i t)) / (1 + Σ_{i ≥ 1} 2⁻ⁱ)

    pool_1, pool_2, … average-pool the maps to 4 × 4, 2 × 2 and 1 × 1, without the sizes that are
    not smaller than the map's height. The gradient goes to the student only.

    Args:
        student_maps: s of each stage, (B, D, H, W), fused and projected to the teacher's shape.
        teacher_maps: t of each stage, of the same shapes.

    Raises:
        ValueError: there is no stage, or the numbers or shapes of the stages differ.

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
    student, teacher = paired_maps(*paired_same_shape(student_map, teacher_map))
    loss, total, weight = F.mse_loss(student, teacher), 1.0, 1.0
    # Pooling is linear, so it is enough to pool the difference.
    difference = student - teacher
    for size in POOLED_SIZES:
        if size < student.shape[2]:
            weight /= 2
            total += weight
            loss = loss + weight * F.adaptive_avg_pool2d(difference, size).square().mean()
    return loss / total
