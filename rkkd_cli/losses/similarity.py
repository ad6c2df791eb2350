"""Similarity-preserving distillation: compares which images activate a layer alike."""

from torch import Tensor

from rkkd_cli.losses.checks import paired_batches, without_autocast
from rkkd_cli.losses.geometry import unit_vectors


@without_autocast
def similarity_preserving_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the mean squared difference of the batch's similarity matrices.

      L = 1/B² · ‖G(s) − G(t)‖²,  G(x) = x xᵀ with each row scaled to length 1

    x (B, D·H·W) are the flattened maps. The row of an image without activation is zero and has no
    gradient (mdistiller and RepDistiller multiply it by 10¹²). The gradient goes to the student
    only.

    Args:
        student_map: s, (B, D, H, W), or any (B, …).
        teacher_map: t, (B, D′, H′, W′), or any (B, …).

    Raises:
        ValueError: these are not floating-point features of one batch.

    Source: Tung and Mori, arXiv 1907.09682, as in mdistiller. The usual weight is 3000.

    """
    student, teacher = (x.flatten(1) for x in paired_batches(student_map, teacher_map))
    difference = unit_vectors(teacher @ teacher.T) - unit_vectors(student @ student.T)
    return difference.square().mean()
