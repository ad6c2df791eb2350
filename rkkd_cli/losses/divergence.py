"""KL divergence and cross-entropy between the softened distributions of student and teacher."""

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import positive
from rkkd_cli.losses.rows import paired_rows

# Beyond it float32 loses the difference of two almost equal distributions: 4 digits are right at
# T = 64, none at 10,000.
LARGE_TEMPERATURE = 64.0
CLOSE = 0.25  # of log ratios, for which the series of kl_at_any_temperature have 9 digits


def kl_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    scale_by_t2: bool = True,
    *,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Return T² · KL(σ(t/T) ‖ σ(s/T)), summed over classes, averaged over the batch, in nats.

      L = T² · 1/B · Σ_b Σ_c p_bc (log p_bc − log q_bc),  p = σ(t/T), q = σ(s/T)

    The factor T² keeps the size of the gradient independent of T. The gradient goes to the student
    only.

    Args:
        student_logits: s, (…, C).
        teacher_logits: t, (…, C).
        temperature: T > 0.
        scale_by_t2: multiply by T², as mdistiller does.
        mask: the rows that count, (…), bool; None for all.
        normalizer: what the sum over these rows is divided by; None for their number.

    Raises:
        ValueError: the shapes differ, or T is not greater than 0.

    Source: Hinton et al., arXiv 1503.02531.

    """
    rows = paired_rows(student_logits, teacher_logits, mask)
    student, teacher = rows.student, rows.teacher
    t = positive("temperature", temperature)
    if t > LARGE_TEMPERATURE:
        filled = student.new_full((1, 1), min(t, 1e30))  # where it has long reached its limit
        loss = kl_at_any_temperature(student, teacher, filled).mean()
        return rows.over(loss if scale_by_t2 else loss / t / t, normalizer)
    log_q = F.log_softmax(student / t, dim=1)
    log_p = F.log_softmax(teacher / t, dim=1)
    loss = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    return rows.over(loss * t**2 if scale_by_t2 else loss, normalizer)


def kl_per_image(student: Tensor, teacher: Tensor, temperature: Tensor) -> Tensor:
    """Return T² · KL(σ(t/T) ‖ σ(s/T)) of each image, (…), for logits (…, C) and T (…, 1)."""
    log_q = F.log_softmax(student / temperature, dim=-1)
    log_p = F.log_softmax(teacher / temperature, dim=-1)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1)
    return divergence * temperature[..., 0] ** 2


def kl_at_any_temperature(student: Tensor, teacher: Tensor, temperature: Tensor) -> Tensor:
    """Return what :func:`kl_per_image` does, without its rounding at large temperatures.

    With w = s − t − Σ_c p_c (s_c − t_c) and v = w/T, the mean of v under p is 0, so that

      KL = log Σ_c p_c exp(v_c) = log(1 + x/T²),  x = Σ_c p_c w_c² · (exp(v_c) − 1 − v_c) / v_c²

    No term of x is negative, and both functions are short series for small v. At temperatures up to
    ``LARGE_TEMPERATURE``, and for images with large v, the result is that of
    :func:`kl_per_image`, bit for bit.
    """
    p = F.softmax(teacher / temperature, dim=-1)
    w = student - teacher
    w = w - (p * w).sum(dim=-1, keepdim=True)
    is_close = (w / temperature).abs().amax(dim=-1, keepdim=True) < CLOSE
    is_close &= temperature > LARGE_TEMPERATURE
    w = torch.where(is_close, w, 0.0)
    v = w / temperature
    series = 1 / 2 + v * (1 / 6 + v * (1 / 24 + v * (1 / 120 + v * (1 / 720 + v / 5040))))
    x = (p * w.square() * series).sum(dim=-1)
    z = x / temperature[..., 0] / temperature[..., 0]
    close = x * (1 - z * (1 / 2 - z * (1 / 3 - z * (1 / 4 - z / 5))))
    finite = temperature.clamp(max=1e15)  # its square is none of the numbers of ``close``
    return torch.where(is_close[..., 0], close, kl_per_image(student, teacher, finite))


def soft_cross_entropy(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    *,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy of the student under the teacher's distribution, in nats.

      L = −1/B · Σ_b Σ_c σ(t/T)_bc log σ(s/T)_bc

    There is no factor T². L is the KL divergence plus the teacher's entropy, which has no gradient.
    Arguments and errors are those of :func:`kl_divergence`. Source: Hinton et al., arXiv
    1503.02531, eq. 2–3, without T², as in the study of α and T.
    """
    rows = paired_rows(student_logits, teacher_logits, mask)
    t = positive("temperature", temperature)
    loss = F.cross_entropy(rows.student / t, F.softmax(rows.teacher / t, dim=1))
    return rows.over(loss, normalizer)
