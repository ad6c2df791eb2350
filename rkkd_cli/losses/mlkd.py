"""Multi-level logit distillation: terms of single images, of the batch and of classes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import positive, without_autocast
from rkkd_cli.losses.divergence import kl_divergence
from rkkd_cli.losses.rows import paired_rows
from rkkd_cli.losses.standardize import standardize_logits

# The method's temperatures beside the base temperature; `mlkd_terms` says which view has which.
# A base temperature that is one of them counts twice.
BOTH_VIEWS = (3.0, 5.0)
WEAK_VIEW = (2.0, 6.0)
ALL_TEMPERATURES = (4.0, *BOTH_VIEWS, *WEAK_VIEW)


class MlkdTerms(NamedTuple):
    """The terms of MLKD without weights: loss_kd, loss_bc and loss_cc of the repositories."""

    instance: Tensor
    batch: Tensor
    classes: Tensor


def instance_level_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperatures: Sequence[float] = ALL_TEMPERATURES,
    standardize: bool = False,
    *,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Return Σ_T T² · KL(σ(t/T) ‖ σ(s/T)), averaged over the batch, in nats.

    The logits are (…, C); ``mask`` and ``normalizer`` are those of :mod:`rkkd_cli.losses`. With
    ``standardize`` both logits are replaced by their :func:`standardize_logits`. The gradient goes
    to the student only. Raises ValueError if the shapes differ or a temperature is not greater than
    0. Source: Jin et al., "Multi-Level Logit
    Distillation", CVPR 2023; standardised: Sun et al., arXiv 2403.01427.
    """
    rows = paired_rows(student_logits, teacher_logits, mask)
    student, teacher = rows.student, rows.teacher
    if standardize:
        student, teacher = standardize_logits(student), standardize_logits(teacher)
    losses = [kl_divergence(student, teacher, t) for t in temperatures]
    return rows.over(torch.stack(losses).sum(), normalizer)


@without_autocast
def batch_level_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperatures: Sequence[float] = ALL_TEMPERATURES,
    *,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Return Σ_T 1/B · ‖P Pᵀ − Q Qᵀ‖², with P = σ(t/T) and Q = σ(s/T), without T².

    It compares the similarities of the images, B × B, and never standardises logits. The rows that
    count are the batch. Shapes, gradient, errors and source are those of
    :func:`instance_level_loss`.
    """
    rows = paired_rows(student_logits, teacher_logits, mask)
    pairs = [_probabilities(rows.student, rows.teacher, t) for t in temperatures]
    losses = [(p @ p.T - q @ q.T).square().sum() for q, p in pairs]
    return rows.over(torch.stack(losses).sum() / len(rows.student), normalizer)


@without_autocast
def class_level_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperatures: Sequence[float] = ALL_TEMPERATURES,
    *,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Return Σ_T 1/C · ‖Pᵀ P − Qᵀ Q‖², with P = σ(t/T) and Q = σ(s/T), without T².

    It compares the co-occurrences of the classes, C × C, which are sums over the batch, so it grows
    with B². It never standardises logits. The rows that count are the batch. Shapes, gradient,
    errors and source are those of :func:`instance_level_loss`.
    """
    rows = paired_rows(student_logits, teacher_logits, mask)
    pairs = [_probabilities(rows.student, rows.teacher, t) for t in temperatures]
    losses = [(p.T @ p - q.T @ q).square().sum() for q, p in pairs]
    return rows.over(torch.stack(losses).sum() / rows.student.shape[1], normalizer)


@torch.no_grad()
def low_confidence_images(teacher_logits: Tensor) -> Tensor:
    """Return a mask (…) of the images whose confidence max_c σ(t)_c is at most the median."""
    teacher = paired_rows(teacher_logits, teacher_logits).teacher
    confidence = F.softmax(teacher, dim=1).amax(dim=1)
    return _at_most_the_median(confidence).view(teacher_logits.shape[:-1])


@torch.no_grad()
def low_confidence_classes(teacher_logits: Tensor) -> Tensor:
    """Return a mask (C,) of the classes whose total Σ_b σ(t)_bc is at most the median."""
    teacher = paired_rows(teacher_logits, teacher_logits).teacher
    return _at_most_the_median(F.softmax(teacher, dim=1).sum(dim=0))


def mlkd_terms(
    student_weak: Tensor,
    teacher_weak: Tensor,
    student_strong: Tensor,
    teacher_strong: Tensor,
    *,
    temperature: float = 4.0,
    standardize: bool = False,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> MlkdTerms:
    """Return the three terms as the published training step computes them.

    With the five temperatures T₀ = ``temperature``, 3, 5, 2, 6, and with m and n, the fractions of
    images and of classes with low confidence in the weak view:

      instance = m · Σ_T KL_T(weak) + KL_{T₀, 3, 5}(strong) + KL_{2, 6}(weak)
      batch    = m · Σ_T batch level(weak),   classes = n · Σ_T class level(weak)

    The published code differs from the paper in three points, all of them kept here. The paper's
    masks select images and classes; the code multiplies them with losses that are already means, so
    only the fractions count (about ½ each). The code applies the last two temperatures to the weak
    view instead of the strong one. And it leaves out the strong view's batch and class levels.

    The code weights the three terms equally (``KD.LOSS.KD_WEIGHT``) and takes the cross-entropy of
    both views. All logits are (…, C), ``mask`` is that of both views, and the rows that count are
    the batch; errors, gradient and sources are those of :func:`instance_level_loss`.
    """
    strong_temperatures = (positive("temperature", temperature), *BOTH_VIEWS)
    temperatures = (*strong_temperatures, *WEAK_VIEW)
    rows = paired_rows(student_weak, teacher_weak, mask)
    weak = rows.student, rows.teacher
    strong = paired_rows(student_strong, teacher_strong, mask)[:2]
    batch = batch_level_loss(*weak, temperatures)
    classes = class_level_loss(*weak, temperatures)
    image_fraction = low_confidence_images(rows.teacher).to(batch.dtype).mean()
    class_fraction = low_confidence_classes(rows.teacher).to(classes.dtype).mean()
    instance = (
        instance_level_loss(*weak, temperatures, standardize) * image_fraction
        + instance_level_loss(*strong, strong_temperatures, standardize)
        + instance_level_loss(*weak, WEAK_VIEW, standardize)
    )
    terms = MlkdTerms(instance, batch * image_fraction, classes * class_fraction)
    return MlkdTerms(*(rows.over(term, normalizer) for term in terms))


def _probabilities(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return σ(s/T) and σ(t/T)."""
    t = positive("temperature", temperature)
    return F.softmax(student / t, dim=1), F.softmax(teacher / t, dim=1)


def _at_most_the_median(values: Tensor) -> Tensor:
    """Return a mask of the values up to the median (of an even number: the middle two's mean)."""
    return values <= values.quantile(0.5)
