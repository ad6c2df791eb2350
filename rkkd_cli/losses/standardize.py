"""Standardised logits, for a student that need not match the teacher's mean and scale."""

import torch
from torch import Tensor

from rkkd_cli.losses.rows import check_mask

EPSILON = 1e-7


def standardize_logits(logits: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Return (z − mean z) / (1e-7 + std z), over the classes of each image.

    The standard deviation divides by C − 1. Equal logits become zeros; their gradient is of the
    order of 10⁷, as the formula says. The gradient goes to ``logits``, also to a teacher's: the
    loss that compares two results detaches the teacher's.

    Args:
        logits: z, (…, C) with C ≥ 2.
        mask: the rows that count, (…), bool; None for all. The others become zeros, whatever they
            hold.

    Returns:
        (…, C), float32 or float64.

    Raises:
        ValueError: the logits are not floating-point and (…, C), C < 2, or the mask has another
            shape.

    Source: Sun et al., arXiv 2403.01427.

    """
    if logits.ndim < 2 or not logits.is_floating_point():
        raise ValueError(
            "logits must be floating-point and (batch, classes) or (…, classes); got "
            f"{tuple(logits.shape)} of {logits.dtype}"
        )
    if logits.shape[-1] < 2:
        raise ValueError("standardised logits need at least 2 classes: one class has no spread")
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if mask is not None:
        z = z.masked_fill(~check_mask(z, mask)[..., None], 0.0)
    # A shift changes only the rounding. It makes equal logits exact zeros; large ones would
    # otherwise miss zero by more than the 1e-7 below.
    z = z - z.detach().amax(dim=-1, keepdim=True)
    return (z - z.mean(dim=-1, keepdim=True)) / (EPSILON + z.std(dim=-1, keepdim=True))
