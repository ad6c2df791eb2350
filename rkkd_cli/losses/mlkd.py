"""Multi-level logit distillation: images, pairs of images and pairs of classes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import paired_logits, positive, without_autocast
from rkkd_cli.losses.divergence import kl_divergence
from rkkd_cli.losses.standardize import standardize_logits

# The method's temperatures besides the base temperature, which may be one of them and then counts
# twice. The first two are those of both views, see `mlkd_terms`.
BOTH_VIEWS = (3.0, 5.0)
WEAK_VIEW = (2.0, 6.0)
ALL = (4.0, *BOTH_VIEWS, *WEAK_VIEW)


class MlkdTerms(NamedTuple):
    """The three unweighted terms of MLKD: loss_kd, loss_bc and loss_cc of the repositories."""

    instance: Tensor
    batch: Tensor
    classes: Tensor


def instance_level_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperatures: Sequence[float] = ALL,
    standardize: bool = False,
) -> Tensor:
    """Return Σ_T T² · KL(σ(t/T) ‖ σ(s/T)), averaged over the batch, in nats.

    ``standardize`` puts :func:`standardize_logits` of either side in the place of s and t. Shapes
    (B, C); the gradient goes to the student only. Raises ValueError when the shapes differ or a
    temperature is not greater than 0. Source: Jin et al., "Multi-Level Logit Distillation",
    CVPR 2023; standardised: Sun et al., arXiv 2403.01427.
    """
    student, teacher = paired_logits(student_logits, teacher_logits)
    if standardize:
        student, teacher = standardize_logits(student), standardize_logits(teacher)
    losses = [kl_divergence(student, teacher, t) for t in temperatures]
    return torch.stack(losses).sum()


@without_autocast
def batch_level_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperatures: Sequence[float] = ALL
) -> Tensor:
    """Return Σ_T 1/B · ‖P Pᵀ − Q Qᵀ‖², with P = σ(t/T) and Q = σ(s/T), without T².

    Compares the B × B likenesses of the images. Never standardised. Shapes, gradient, errors and
    source as of :func:`instance_level_loss`.
    """
    student, teacher = paired_logits(student_logits, teacher_logits)
    pairs = [_probabilities(student, teacher, t) for t in temperatures]
    losses = [(p @ p.T - q @ q.T).square().sum() for q, p in pairs]
    return torch.stack(losses).sum() / student.shape[0]


@without_autocast
def class_level_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperatures: Sequence[float] = ALL
) -> Tensor:
    """Return Σ_T 1/C · ‖Pᵀ P − Qᵀ Q‖², with P = σ(t/T) and Q = σ(s/T), without T².

    Compares the C × C co-occurrences of the classes, summed over the batch: it grows with B².
    Never standardised. Shapes, gradient, errors and source as of
    :func:`instance_level_loss`.
    """
    student, teacher = paired_logits(student_logits, teacher_logits)
    pairs = [_probabilities(student, teacher, t) for t in temperatures]
    losses = [(p.T @ p - q.T @ q).square().sum() for q, p in pairs]
    return torch.stack(losses).sum() / student.shape[1]


@torch.no_grad()
def low_confidence_images(teacher_logits: Tensor) -> Tensor:
    """Return which images (B,) have a largest probability max_c σ(t)_c of at most the median."""
    _, teacher = paired_logits(teacher_logits, teacher_logits)
    return _at_most_the_median(F.softmax(teacher, dim=1).amax(dim=1))


@torch.no_grad()
def low_confidence_classes(teacher_logits: Tensor) -> Tensor:
    """Return which classes (C,) have a summed probability Σ_b σ(t)_bc of at most the median."""
    _, teacher = paired_logits(teacher_logits, teacher_logits)
    return _at_most_the_median(F.softmax(teacher, dim=1).sum(dim=0))


def mlkd_terms(
    student_weak: Tensor,
    teacher_weak: Tensor,
    student_strong: Tensor,
    teacher_strong: Tensor,
    *,
    temperature: float = 4.0,
    standardize: bool = False,
) -> MlkdTerms:
    """Return the three terms exactly as the published training step computes them.

    With the five temperatures T₀ = ``temperature``, 3, 5, 2, 6 and the shares m and n of images
    and classes of low confidence in the weak view:

      instance = m · Σ_T KL_T(weak) + KL_{T₀, 3, 5}(strong) + KL_{2, 6}(weak)
      batch    = m · Σ_T batch level(weak),   classes = n · Σ_T class level(weak)

    The paper describes masks that choose images and classes. The code multiplies them onto losses
    that are means already, so that only their shares enter (about ½ each); it gives the last
    two temperatures of the strong view to the weak one; and it drops the strong view's batch and
    class levels. All of this is kept here. Its weights are equal (``KD.LOSS.KD_WEIGHT``), and its
    cross-entropy is that of both views together. Shapes (B, C), and errors, gradient and sources
    as of :func:`instance_level_loss`.
    """
    base = (positive("temperature", temperature), *BOTH_VIEWS)
    every = (*base, *WEAK_VIEW)
    images = low_confidence_images(teacher_weak)
    classes = low_confidence_classes(teacher_weak)
    batch = batch_level_loss(student_weak, teacher_weak, every)
    across = class_level_loss(student_weak, teacher_weak, every)
    instance = (
        instance_level_loss(student_weak, teacher_weak, every, standardize)
        * images.to(batch.dtype).mean()
        + instance_level_loss(student_strong, teacher_strong, base, standardize)
        + instance_level_loss(student_weak, teacher_weak, WEAK_VIEW, standardize)
    )
    return MlkdTerms(
        instance,
        batch * images.to(batch.dtype).mean(),
        across * classes.to(across.dtype).mean(),
    )


def _probabilities(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return σ(s/T) and σ(t/T)."""
    t = positive("temperature", temperature)
    return F.softmax(student / t, dim=1), F.softmax(teacher / t, dim=1)


def _at_most_the_median(values: Tensor) -> Tensor:
    """Return which values are at most the median, of an even number the mean of the middle two."""
    return values <= values.quantile(0.5)
