"""Attention transfer: compares where in the image a layer is active."""

import math

from torch import Tensor

from rkkd_cli.losses.checks import paired_maps
from rkkd_cli.losses.geometry import match_sizes, unit_vectors


def attention_transfer_loss(student_map: Tensor, teacher_map: Tensor, p: float = 2.0) -> Tensor:
    """Return the mean squared difference of two attention maps.

      L = 1/(B·H·W) · Σ_bhw (A(s)_bhw − A(t)_bhw)²
      A(x) = a / ‖a‖ per image, a_hw = 1/D · Σ_d |x_dhw|^p

    If the sizes differ, the larger map is average-pooled to the smaller one first. An image without
    activation has A = 0 and no gradient. The gradient goes to the student only. mdistiller and
    RepDistiller use x^p instead of ``|x|^p``, which is the same for even p.

    Args:
        student_map: s, (B, D, H, W).
        teacher_map: t, (B, D′, H′, W′).
        p: the power, p ≥ 1.

    Raises:
        ValueError: these are not feature maps of one batch, or p < 1.

    Source: Zagoruyko and Komodakis, arXiv 1612.03928, with the mean over positions that
    RepDistiller and mdistiller take. The usual weight is 1000, summed over the stages.

    """
    if not (math.isfinite(p) and p >= 1):
        raise ValueError(f"the attention's power must be a finite number of at least 1, not {p}")
    student, teacher = match_sizes(*paired_maps(student_map, teacher_map))
    return (_attention(student, p) - _attention(teacher, p)).square().mean()


def _attention(x: Tensor, p: float) -> Tensor:
    """Return the attention maps (B, H·W), each of length 1."""
    return unit_vectors(x.abs().pow(p).mean(dim=1).flatten(1))
