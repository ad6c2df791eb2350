"""Variational information distillation: how well a Gaussian around the student fits the teacher."""

import math

import torch
from torch import Tensor

from rkkd_cli.losses.checks import paired_alike, positive

EPSILON = 1e-5


def vid_loss(
    predicted_mean: Tensor, log_scale: Tensor, teacher_map: Tensor, eps: float = EPSILON
) -> Tensor:
    """Return the negative log-likelihood of the teacher's map, up to a constant.

      L = mean of ½ · ((μ − t)² / v_d + log v_d),  v_d = log(1 + exp ρ_d) + ε

    over the batch, channels and positions; the constant ½ log 2π is left out. One variance for
    each channel. The gradient goes to the mean and to the scale. Where sizes differ, the maps are
    pooled (:func:`match_sizes`) before the student's regressor sees them.

    Args:
        predicted_mean: μ, (B, D, …), the student's map after its regressor.
        log_scale: ρ, (D,), a parameter; see :func:`vid_log_scale`.
        teacher_map: t, of the shape of μ.
        eps: ε > 0, the least variance.

    Raises:
        ValueError: the shapes differ, the scale is not (D,), or ε is not greater than 0.

    Source: Ahn et al., arXiv 1904.05835, as in RepDistiller.

    """
    mean, target = paired_alike(predicted_mean, teacher_map)
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
    """Return the ρ whose variance log(1 + exp ρ) + ε is ``variance``: where training begins.

    Raises ValueError unless ε > 0 and the variance is greater than ε.
    """
    return math.log(math.expm1(positive("variance − eps", variance - positive("eps", eps))))
