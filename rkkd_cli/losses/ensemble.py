"""What several teachers say together: the means of their logits and of their probabilities.

Shapes: M teachers, C classes; … the batch, in any number of dimensions.
"""

import math

import torch
from torch import Tensor

from rkkd_cli.losses.checks import positive

NEAR = 0.25  # below it, log1p and expm1 keep the digits that log and exp lose


def mean_logits(teacher_logits: Tensor) -> Tensor:
    """Return the mean (…, C) of the teachers' logits (M, …, C).

    Its distribution is the normalised geometric mean of theirs, at every temperature.
    """
    return _checked(teacher_logits).mean(dim=0)


def mean_probabilities(teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return logits z (…, C) whose softened distribution is the mean of the teachers'.

      σ(z/T) = p,  p = 1/M · Σ_m σ(t_m/T),  so that z = T · log p + a constant of each image

    The constant is chosen such that z has the scale of the teachers' logits: of equal teachers, z
    is their logits, and for T → ∞ it is their mean. Losses that compare distributions or the order
    of classes do not depend on it.

    Args:
        teacher_logits: t, (M, …, C) with M ≥ 1.
        temperature: T > 0 at which the probabilities are averaged; for KL, that of KL.

    Raises:
        ValueError: the logits are no floating-point (M, …, C), or T is not greater than 0.

    Source: the averaged soft targets of Hinton et al., arXiv 1503.02531, section 2, and of You et
    al., "Learning from Multiple Teacher Networks", KDD 2017.

    """
    t = positive("temperature", min(temperature, 1e30))
    logits = _checked(teacher_logits)
    centred = logits - logits.mean(dim=-1, keepdim=True)
    log_z = _log_mean_exp(centred / t, dim=-1).unsqueeze(-1)
    log_p = centred / t - log_z  # of each teacher, up to log C
    mean_log_p = log_p.mean(dim=0)
    return logits.mean(dim=0) + t * _log_mean_exp(log_p - mean_log_p, dim=0)


def _log_mean_exp(x: Tensor, dim: int) -> Tensor:
    """Return log(mean(exp x)), also where all x are so small that exp x rounds to 1."""
    near = x.expm1().mean(dim=dim).log1p()
    far = x.logsumexp(dim=dim) - math.log(x.shape[dim])
    return torch.where(x.abs().amax(dim=dim) < NEAR, near, far)


def _checked(logits: Tensor) -> Tensor:
    if logits.ndim < 3 or not logits.is_floating_point():
        raise ValueError(
            "the teachers' logits must be floating-point and (teachers, batch, classes); got "
            f"{tuple(logits.shape)} of {logits.dtype}"
        )
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
