"""Similarity-preserving distillation: which images of a batch excite a layer alike."""

from torch import Tensor

from rkkd_cli.losses.checks import paired_batches, without_autocast
from rkkd_cli.losses.geometry import unit_vectors


@without_autocast
def similarity_preserving_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return 1/B² · ‖G(t) − G(s)‖², G(x) being x xᵀ with rows of length 1.

    x is the (B, D·H·W) matrix of the flattened maps. The row of an image without any activation
    is zero and has no gradient (the references multiply it by 10¹²). The gradient goes to the
    student only.

    Args:
        student_map: s, (B, D, H, W), or any (B, …).
        teacher_map: t, (B, D′, H′, W′), or any (B, …).

    Raises:
        ValueError: these are not floating-point features of one batch.

    Source: Tung and Mori, arXiv 1907.09682, as in mdistiller, usual weight 3000.

    """
    student, teacher = (x.flatten(1) for x in paired_batches(student_map, teacher_map))
    difference = unit_vectors(teacher @ teacher.T) - unit_vectors(student @ student.T)
    return difference.square().mean()
