"""Features compared entry by entry: FitNet's hints, SimKD's ℓ2 loss and its KL variant."""

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import check_target, paired_same_shape
from rkkd_cli.losses.rows import paired_rows


def hint_loss(
    student_features: Tensor, teacher_features: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return the mean squared error over the features of an image and over the batch.

      L = Σ_b w_b L_b / Σ_b w_b,  L_b = the mean of (s_b − t_b)²

    This is FitNet's loss of regressed features, without the paper's ½. It is also SimKD's loss of
    projected maps after :func:`match_sizes`. The gradient goes to the student only.

    Args:
        student_features: s, (B, D, …), after the student's projector.
        teacher_features: t, of the same shape.
        weights: w, (B,), not negative, such as :func:`correctly_classified`. By default all are 1;
            if all are 0, the loss is 0.

    Raises:
        ValueError: the shapes differ, or the weights are not one number per image.

    Source: Romero et al., arXiv 1412.6550; Chen et al. (SimKD), arXiv 2203.14001.

    """
    student, teacher = paired_same_shape(student_features, teacher_features)
    return _weighted_mean((student - teacher).square().flatten(1).mean(dim=1), weights)


def feature_kl_loss(
    student_features: Tensor, teacher_features: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return KL(σ(t) ‖ σ(s)), the softmax σ taken over channels at each position, in nats.

    The divergence is summed over channels and averaged over the positions of an image, then over
    the batch; there is no temperature. Features (B, D) have one position, (B, D, H, W) have H·W.
    Arguments and errors are those of :func:`hint_loss`. The gradient goes to the student only.
    Source: the softmax variant of the feature loss in studies of SimKD; arXiv 2203.14001 itself has
    the ℓ2 loss.
    """
    student, teacher = paired_same_shape(student_features, teacher_features)
    log_q, log_p = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)
    return _weighted_mean(divergence.reshape(len(divergence), -1).mean(dim=1), weights)


def correctly_classified(teacher_logits: Tensor, target: Tensor) -> Tensor:
    """Return a mask (…) of the images that the teacher classifies correctly.

    Raises ValueError unless the logits are (…, C) and the target (…) int64 class numbers.
    """
    teacher = paired_rows(teacher_logits, teacher_logits).teacher
    found = teacher.argmax(dim=1).view(teacher_logits.shape[:-1])
    return found == check_target(teacher_logits, target)


def _weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Return Σ w L / Σ w of losses (B,), or 0 if all weights are 0."""
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
