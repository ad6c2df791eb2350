"""KL divergence to a teacher of whose logits the largest are kept, with the mass of the others.

Shapes: B batch, C classes, K of them kept.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.losses.checks import in_one_dtype, positive
from rkkd_cli.losses.divergence import LARGE_TEMPERATURE, kl_divergence


class TopLogits(NamedTuple):
    """What is kept of a teacher's logits t (B, C): those of the top K classes of each image.

    Attributes:
        indices: the classes (B, K), int64.
        logits: their logits (B, K).
        rest: for each temperature T the logit r (B,) with which every other class, if it had it,
            would leave their mass as it is: r = T · log(1/(C − K) · Σ_c exp(t_c/T)), a sum over the
            other classes. It lies between their mean and their largest logit. It has no meaning
            where K = C.

    """

    indices: Tensor
    logits: Tensor
    rest: Mapping[float, Tensor]

    def pair(self, student_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of student and teacher for the kept classes, both (…, B, K)."""
        indices = self.indices.expand(*student_logits.shape[:-1], -1)
        return student_logits.gather(-1, indices), self.logits.expand(indices.shape)

    def among_all(self, values: Tensor, num_classes: int, others: float = 0.0) -> Tensor:
        """Return values (…, B, K) of the kept classes as (…, B, C), with that for the others."""
        filled = values.new_full((*values.shape[:-1], num_classes), others)
        return filled.scatter(-1, self.indices.expand(values.shape), values)


@torch.no_grad()
def top_logits(
    teacher_logits: Tensor, count: int, temperatures: Sequence[float] = (4.0,)
) -> TopLogits:
    """Return what is kept of logits (B, C): the ``count`` largest, and the rest at temperatures.

    Raises:
        ValueError: the logits are no floating-point tensor (B, C), the count is not in 1 … C, or a
            temperature is not greater than 0.

    """
    if teacher_logits.ndim != 2:
        raise ValueError(f"logits must be (batch, classes); got {tuple(teacher_logits.shape)}")
    t, _ = in_one_dtype(teacher_logits, teacher_logits, "logits")
    if not 1 <= count <= t.shape[1]:
        raise ValueError(f"the count must be one of 1 … {t.shape[1]} classes, not {count}")
    logits, indices = t.topk(count, dim=1)
    is_kept = _marked(indices, t)
    rest = {
        temperature: _rest_logit(t, is_kept, positive("temperature", temperature))
        for temperature in temperatures
    }
    return TopLogits(indices, logits, rest)


def tail_bin_kl_divergence(
    student_logits: Tensor,
    teacher: TopLogits,
    temperature: float = 4.0,
    scale_by_t2: bool = True,
) -> Tensor:
    """Return the KL divergence over K + 1 bins: the kept classes, and one for all others.

      L = T² · 1/B · Σ_b [ Σ_{c kept} p_bc (log p_bc − log q_bc) + P_b (log P_b − log Q_b) ]

    with p = σ(t/T), q = σ(s/T), and P, Q their sums over the classes that are not kept. It is at
    most the KL divergence over all classes (log-sum inequality), and equal to it where the student
    shares out Q as the teacher does P; so it is where K ≥ C − 1.

    The gradient goes to the student only, and can be differentiated no further. By a logit of the
    rest it is T/B · q_bc (1 − P_b/Q_b), of one sign for all of them: it is about their mass alone.

    Args:
        student_logits: s, (B, C), all of them.
        teacher: what is kept of the teacher's logits, with the rest at the temperature.
        temperature: T > 0.
        scale_by_t2: multiply by T², as mdistiller does.

    Raises:
        ValueError: the shapes differ, T is not greater than 0, or not among those of ``rest``.

    Source: Hinton et al., arXiv 1503.02531. What top K alone, without the rest, does to a student:
    Anshumann et al., arXiv 2503.16870.

    """
    indices, kept = teacher.indices, teacher.logits
    is_shape = student_logits.ndim == 2 and len(student_logits) == len(indices)
    if not is_shape or indices.shape != kept.shape or kept.shape[1] > student_logits.shape[1]:
        raise ValueError(
            "student logits must be (batch, classes) of the images of which the teacher's top "
            f"classes are kept; got {tuple(student_logits.shape)} and {tuple(kept.shape)}"
        )
    student, _ = in_one_dtype(student_logits, kept, "logits")
    t = positive("temperature", temperature)
    if t not in teacher.rest:
        known = ", ".join(f"{one:g}" for one in teacher.rest)
        raise ValueError(f"the rest is kept at temperature {known}, not at {t:g}")
    return kl_divergence(student, completed_logits(student, teacher, t), t, scale_by_t2)


@torch.no_grad()
def completed_logits(student: Tensor, teacher: TopLogits, temperature: float) -> Tensor:
    """Return the logits (B, C) of a teacher that shares out the rest as the student does.

    Of all teachers with the same kept logits and the same rest it is the nearest to the student:
    the KL divergence to it is that over K + 1 bins. So is the gradient, although the completed
    logits have none: what they add is (log P − log Q + 1) · Σ_c ∂p_bc, and the sum over the rest
    is ∂P = 0.
    """
    if teacher.logits.shape[1] == student.shape[1]:
        return torch.empty_like(student).scatter(1, teacher.indices, teacher.logits.to(student))
    own = _rest_logit(student, _marked(teacher.indices, student), temperature)
    shifted = student + (teacher.rest[temperature].to(student) - own)[:, None]
    return shifted.scatter(1, teacher.indices, teacher.logits.to(student))


def _marked(indices: Tensor, logits: Tensor) -> Tensor:
    """Return a mask (B, C) that is true for the classes (B, K)."""
    return torch.zeros_like(logits, dtype=torch.bool).scatter(1, indices, True)


def _rest_logit(logits: Tensor, is_kept: Tensor, temperature: float) -> Tensor:
    """Return T · log of the mean of exp(x/T) over the classes that are not kept, (B,).

    The mass is summed over the rest alone: 1 less the mass of the others would lose all digits of
    a small one. At large T the logarithm of a mean near 1 would lose those that T multiplies, so
    there it is taken of how far the mean is from 1.
    """
    count = (~is_kept).sum(dim=1).to(logits.dtype)
    others = logits.masked_fill(is_kept, -math.inf)
    rest = temperature * ((others / temperature).logsumexp(dim=1) - count.log())
    if temperature <= LARGE_TEMPERATURE:
        return rest
    largest = others.amax(dim=1)
    scaled = (others - largest[:, None]) / temperature
    excess = scaled.expm1().masked_fill(is_kept, 0.0).sum(dim=1) / count
    return torch.where(excess > -0.5, largest + temperature * excess.log1p(), rest)
