"""Features matched one by one: FitNet's hints, SimKD's ℓ2 loss and its KL variant."""

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import labels_of, paired_alike, paired_logits


def hint_loss(
    student_features: Tensor, teacher_features: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return the mean of (s − t)², over the features of an image and over the batch.

    FitNet's loss of regressed features, without the paper's ½, and SimKD's loss of projected
    maps, once :func:`match_sizes` has made the sizes equal. The gradient goes to the student
    only.

    Args:
        student_features: s, (B, D, …), after the student's projector.
        teacher_features: t, of the same shape.
        weights: (B,), not negative, such as :func:`correctly_classified`: the loss is
            Σ_b w_b L_b / Σ_b w_b, and 0 if no image counts. All 1 if left out.

    Raises:
        ValueError: the shapes differ, or the weights are not one number per image.

    Source: Romero et al., arXiv 1412.6550; Chen et al. (SimKD), arXiv 2203.14001.

    """
    student, teacher = paired_alike(student_features, teacher_features)
    return _weighted_mean((student - teacher).square().flatten(1).mean(dim=1), weights)


def feature_kl_loss(
    student_features: Tensor, teacher_features: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return KL(σ(t) ‖ σ(s)) of the features, σ over the channels at each position, in nats.

    Summed over the channels, averaged over the positions of an image and over the batch. Without
    a temperature. Arguments and errors as of :func:`hint_loss`: (B, D) are features of one
    position, (B, D, H, W) of H·W. The gradient goes to the student only. Source: the softmax
    variant of the feature loss in studies of SimKD (arXiv 2203.14001 itself has the ℓ2 loss).
    """
    student, teacher = paired_alike(student_features, teacher_features)
    log_q, log_p = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)
    return _weighted_mean(divergence.reshape(len(divergence), -1).mean(dim=1), weights)


def correctly_classified(teacher_logits: Tensor, target: Tensor) -> Tensor:
    """Return which images (B,) the teacher's largest logit classifies correctly.

    Raises ValueError unless these are (B, C) logits and (B,) int64 class numbers.
    """
    _, teacher = paired_logits(teacher_logits, teacher_logits)
    return teacher.argmax(dim=1) == labels_of(teacher, target)


def _weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Return Σ w L / Σ w of (B,) losses, 0 if the weights are."""
    if weights is None:
        return losses.mean()
    if weights.shape != losses.shape:
        raise ValueError(
            f"the weights must be one number per image, {tuple(losses.shape)}; got "
            f"{tuple(weights.shape)}"
        )
    w = weights.detach().to(losses.dtype)
    total = w.sum()
    return (w * losses).sum() / torch.where(total > 0, total, 1.0)
