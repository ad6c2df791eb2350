"""The exact Kendall rank correlation with ties, as a metric."""

import torch
from torch import Tensor

from rkkd_cli.losses.checks import paired_logits
from rkkd_cli.losses.kernels import cpu, torch_blocks


def kendall_tau_b(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return Kendall's τ-b between two orders of the classes, in [−1, 1], averaged over the batch.

      τ_b = (P − Q) / √((n₀ − n_s)(n₀ − n_t))

    per image, with P concordant and Q discordant pairs of classes, n₀ = C(C−1)/2 pairs in all, and
    n_s and n_t pairs tied in the student and in the teacher. It has no gradient. An image whose
    classes are all tied in the student or in the teacher counts as 0 (scipy's ``kendalltau``
    returns NaN).

    Args:
        student_logits: s, (B, C) with C ≥ 2.
        teacher_logits: t, (B, C).

    Raises:
        ValueError: the shapes differ, or C < 2.

    Source: Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945).

    """
    return tau_b_per_image(student_logits, teacher_logits).mean()


@torch.no_grad()
def tau_b_per_image(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return τ-b of each image, (B,). Arguments and errors are those of :func:`kendall_tau_b`."""
    s, t = paired_logits(student_logits, teacher_logits)
    if s.shape[1] < 2:
        raise ValueError("Kendall's tau needs at least 2 classes: one class has no order")
    counts = cpu.count_pairs(s, t) if cpu.supports(s, t) else torch_blocks.count_pairs(s, t)
    balance, untied_in_s, untied_in_t = (2 * counts.T).to(s.dtype)
    product = untied_in_s * untied_in_t
    has_order = product > 0
    tau = balance / torch.where(has_order, product, 1.0).sqrt()
    return torch.where(has_order, tau, 0.0).clamp(-1, 1)
