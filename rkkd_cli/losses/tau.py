"""The exact Kendall rank correlation with ties, as a metric."""

import torch
from torch import Tensor

from rkkd_cli.losses.checks import paired_logits
from rkkd_cli.losses.kernels import cpu
from rkkd_cli.losses.kernels.torch_blocks import pair_blocks


def kendall_tau_b(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return Kendall's τ-b of the two orders of the classes, averaged over the batch.

    τ_b = (P − Q) / √((n₀ − n_s)(n₀ − n_t)) per image, with P concordant and Q discordant pairs,
    n₀ = C(C−1)/2 pairs and n_s, n_t pairs tied in the student and in the teacher. In [−1, 1];
    not differentiable. An image in which either side ties all classes has no order and counts
    as 0 (scipy's ``kendalltau`` gives NaN there).

    Args:
        student_logits: (B, C) with C ≥ 2.
        teacher_logits: (B, C).

    Raises:
        ValueError: the shapes differ, or C < 2.

    Source: Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945).

    """
    return tau_b_per_image(student_logits, teacher_logits).mean()


@torch.no_grad()
def tau_b_per_image(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return τ-b of each image, (B,); arguments and errors as of :func:`kendall_tau_b`."""
    s, t = paired_logits(student_logits, teacher_logits)
    if s.shape[1] < 2:
        raise ValueError("Kendall's tau needs at least 2 classes: one class has no order")
    counts = cpu.pair_counts(s, t).T if cpu.fits(s, t) else pair_counts(s, t)
    balance, in_student, in_teacher = (2 * counts).to(s.dtype)
    ordered = (in_student * in_teacher) > 0
    tau = balance / torch.where(ordered, in_student * in_teacher, 1.0).sqrt()
    return torch.where(ordered, tau, 0.0).clamp(-1, 1)


def pair_counts(s: Tensor, t: Tensor) -> Tensor:
    """Return concordant less discordant pairs, and the pairs not tied in s and in t, (3, B)."""
    counts = torch.zeros(3, s.shape[0], dtype=torch.int64, device=s.device)
    for block in pair_blocks(*s.shape):
        rows, size = slice(block.start, block.stop), block.size
        student = torch.sign(s[:, rows, None] - s[:, None, block.start :])
        teacher = torch.sign(t[:, rows, None] - t[:, None, block.start :])
        for row, signs in enumerate((student * teacher, student.abs(), teacher.abs())):
            # A block's sums are whole numbers below 2^24, hence exact in float32. The square
            # holds each pair twice, so everything is counted in halves.
            twice = 2 * signs[..., size:].sum(dim=(1, 2)) + signs[..., :size].sum(dim=(1, 2))
            counts[row] += twice.to(torch.int64)
    return counts // 2
