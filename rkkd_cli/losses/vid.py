"""Variational information distillation: the teacher's likelihood under a Gaussian."""

import math

import torch
from torch import Tensor

from rkkd_cli.losses.checks import paired_same_shape, positive

EPSILON = 1e-5


def vid_loss(
    predicted_mean: Tensor, log_scale: Tensor, teacher_map: Tensor, eps: float = EPSILON
) -> Tensor:
    """Return the negative log-likelihood of the teacher's map, without the constant ½ log 2π.

      L = mean of ½ · ((μ − t)² / v_d + log v_d),  v_d = log(1 + exp ρ_d) + ε

    The mean is over the batch, channels d and positions; each channel has one variance v_d. The
    gradient goes to the mean and the scale. If the sizes of the maps differ, pool them with
    :func:`match_sizes` before the student's regressor.

    Args:
        predicted_mean: μ, (B, D, …), the student's map after its regressor.
        log_scale: ρ, (D,), a trainable parameter; :func:`vid_log_scale` gives its initial value.
        teacher_map: t, of the shape of μ.
        eps: ε > 0, the smallest variance.

    Raises:
        ValueError: the shapes differ, the scale is not (D,), or ε is not greater than 0.

    Source: Ahn et al., arXiv 1904.05835, as in RepDistiller.

    """
    mean, target = paired_same_shape(predicted_mean, teacher_map)
    channels = mean.shape[1]
    if log_scale.shape != (channels,):
        raise ValueError(
            f"the scale must be one number per channel, ({channels},); got {tuple(log_scale.shape)}"
        )
    scale = log_scale.to(mean.dtype)
    variance = torch.logaddexp(scale, torch.zeros_like(scale)) + positive("eps", eps)
    variance = variance.view(1, channels, *[1] * (mean.ndim - 2))
    return 0.5 * ((mean - target).square() / variance + variance.log()).mean()


def vid_log_scale(variance: float = 5.0, eps: float = EPSILON) -> float:
    """Return the scale ρ whose variance log(1 + exp ρ) + ε is ``variance``.

    Raises ValueError unless ε > 0 and the variance is greater than ε.
    """
    return math.log(math.expm1(positive("variance − eps", variance - positive("eps", eps))))
