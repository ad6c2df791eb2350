"""The exact Kendall rank correlation with ties, as a metric."""

import torch
from torch import Tensor

from rkkd_cli.losses.kernels import cpu, torch_blocks
from rkkd_cli.losses.rows import Rows, paired_rows


def kendall_tau_b(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Return Kendall's τ-b between two orders of the classes, in [−1, 1], averaged over the batch.

      τ_b = (P − Q) / √((n₀ − n_s)(n₀ − n_t))

    per image, with P concordant and Q discordant pairs of classes, n₀ = C(C−1)/2 pairs in all, and
    n_s and n_t pairs tied in the student and in the teacher. It has no gradient. An image whose
    classes are all tied in the student or in the teacher counts as 0 (scipy's ``kendalltau``
    returns NaN).

    Args:
        student_logits: s, (…, C) with C ≥ 2.
        teacher_logits: t, (…, C).
        mask: the rows that count, (…), bool; None for all.
        normalizer: what the sum over these rows is divided by; None for their number.

    Raises:
        ValueError: the shapes differ, or C < 2.

    Source: Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945).

    """
    rows = paired_rows(student_logits, teacher_logits, mask)
    return rows.over(_tau_b(rows).mean(), normalizer)


def tau_b_per_image(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return τ-b of each image, (B,). Arguments and errors are those of :func:`kendall_tau_b`."""
    return _tau_b(paired_rows(student_logits, teacher_logits))


@torch.no_grad()
def _tau_b(rows: Rows) -> Tensor:
    s, t = rows.student, rows.teacher
    if s.shape[1] < 2:
        raise ValueError("Kendall's tau needs at least 2 classes: one class has no order")
    counts = cpu.count_pairs(s, t) if cpu.supports(s, t) else torch_blocks.count_pairs(s, t)
    balance, untied_in_s, untied_in_t = (2 * counts.T).to(s.dtype)
    product = untied_in_s * untied_in_t
    has_order = product > 0
    tau = balance / torch.where(has_order, product, 1.0).sqrt()
    return torch.where(has_order, tau, 0.0).clamp(-1, 1)
