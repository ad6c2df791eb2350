"""Decoupled knowledge distillation: separate terms for the target class and the others."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import check_target, positive
from rkkd_cli.losses.rows import paired_rows


class DkdTerms(NamedTuple):
    """The target-class and the non-target-class term of DKD, × T², without their weights."""

    tckd: Tensor
    nckd: Tensor


def dkd_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: float = 4.0,
    *,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> DkdTerms:
    """Return the target-class and the non-target-class term, both × T².

    With p = σ(t/T), q = σ(s/T) and the true class y, averaged over the batch, in nats:

      TCKD = T² · KL((p_y, 1 − p_y) ‖ (q_y, 1 − q_y))
      NCKD = T² · KL(p̂ ‖ q̂), where p̂ and q̂ are p and q of the other C − 1 classes, scaled to sum 1

    The KL divergence of an image is TCKD + (1 − p_y) · NCKD. The gradient goes to the student only.
    Both terms are computed from logarithms. mdistiller takes the logarithm of probabilities and
    masks the true class by subtracting 1000, which is infinite or wrong for logits of about 10⁴;
    otherwise the values are the same.

    Args:
        student_logits: s, (…, C) with C ≥ 2.
        teacher_logits: t, (…, C).
        target: y, (…), int64.
        temperature: T > 0.
        mask: the rows that count, (…), bool; None for all.
        normalizer: what the sum over these rows is divided by; None for their number.

    Raises:
        ValueError: the shapes differ, C < 2, or T is not greater than 0.

    Source: Zhao et al., arXiv 2203.08679.

    """
    rows = paired_rows(student_logits, teacher_logits, mask)
    target = rows.of(check_target(student_logits, target))
    if rows.student.shape[1] < 2:
        raise ValueError("DKD needs at least 2 classes: one class has no others")
    t = positive("temperature", temperature)
    student, teacher = rows.student / t, rows.teacher / t
    tckd = _kl(_log_binary(student, target), _log_binary(teacher, target))
    nckd = _kl(
        F.log_softmax(_non_target(student, target), dim=1),
        F.log_softmax(_non_target(teacher, target), dim=1),
    )
    return DkdTerms(rows.over(tckd * t**2, normalizer), rows.over(nckd * t**2, normalizer))


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    *,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Return α · TCKD + β · NCKD.

    Equations, shapes, errors and source are those of :func:`dkd_terms`.
    """
    tckd, nckd = dkd_terms(
        student_logits, teacher_logits, target, temperature, mask=mask, normalizer=normalizer
    )
    return alpha * tckd + beta * nckd


def _non_target(logits: Tensor, target: Tensor) -> Tensor:
    """Return the (B, C − 1) logits of all classes but the target."""
    index = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, index + (index >= target[:, None]))


def _log_binary(logits: Tensor, target: Tensor) -> Tensor:
    """Return log (p_y, 1 − p_y), (B, 2)."""
    of_target = logits.gather(1, target[:, None])
    rest = _non_target(logits, target).logsumexp(dim=1, keepdim=True)
    return F.log_softmax(torch.cat([of_target, rest], dim=1), dim=1)


def _kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
