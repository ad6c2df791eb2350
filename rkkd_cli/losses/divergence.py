"""KL divergence and cross-entropy between the softened distributions of student and teacher."""

from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import paired_logits, positive


def kl_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    scale_by_t2: bool = True,
) -> Tensor:
    """Return T² · KL(σ(t/T) ‖ σ(s/T)), summed over classes, averaged over the batch, in nats.

      L = T² · 1/B · Σ_b Σ_c p_bc (log p_bc − log q_bc),  p = σ(t/T), q = σ(s/T)

    The factor T² keeps the size of the gradient independent of T. The gradient goes to the student
    only.

    Args:
        student_logits: s, (B, C).
        teacher_logits: t, (B, C).
        temperature: T > 0.
        scale_by_t2: multiply by T², as mdistiller does.

    Raises:
        ValueError: the shapes differ, or T is not greater than 0.

    Source: Hinton et al., arXiv 1503.02531.

    """
    student, teacher = paired_logits(student_logits, teacher_logits)
    t = positive("temperature", temperature)
    log_q = F.log_softmax(student / t, dim=1)
    log_p = F.log_softmax(teacher / t, dim=1)
    loss = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    return loss * t**2 if scale_by_t2 else loss


def kl_per_image(student: Tensor, teacher: Tensor, temperature: Tensor) -> Tensor:
    """Return T² · KL(σ(t/T) ‖ σ(s/T)) of each image, (…), for logits (…, C) and T (…, 1)."""
    log_q = F.log_softmax(student / temperature, dim=-1)
    log_p = F.log_softmax(teacher / temperature, dim=-1)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1)
    return divergence * temperature[..., 0] ** 2


def soft_cross_entropy(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float
) -> Tensor:
    """Return the cross-entropy of the student under the teacher's distribution, in nats.

      L = −1/B · Σ_b Σ_c σ(t/T)_bc log σ(s/T)_bc

    There is no factor T². L is the KL divergence plus the teacher's entropy, which has no gradient.
    Arguments and errors are those of :func:`kl_divergence`. Source: Hinton et al., arXiv
    1503.02531, eq. 2–3, without T², as in the study of α and T.
    """
    student, teacher = paired_logits(student_logits, teacher_logits)
    t = positive("temperature", temperature)
    return F.cross_entropy(student / t, F.softmax(teacher / t, dim=1))
