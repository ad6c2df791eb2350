"""The ranking loss in PyTorch's operations, for any device and precision."""

import torch
from torch import Tensor

from rkkd_cli.losses.blocks import pair_blocks
from rkkd_cli.losses.surrogates import PairAgreement


def values_and_gradients(
    s: Tensor, t: Tensor, k: float, agreement: PairAgreement, wants_gradient: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the ranking loss of each image, (B,), and its gradient by s, (B, C), in one pass.

    The gradient stays zero unless it is wanted.

    In a block the rows meet themselves in a square, where each pair stands twice (its agreement
    counts half), and all later channels in a rectangle, where the antisymmetric slope gives both
    ends their share.
    """
    batch, channels = s.shape
    total = s.new_zeros(batch)
    gradient = torch.zeros_like(s)
    for block in pair_blocks(batch, channels):
        rows, size = slice(block.start, block.stop), block.size
        dt = t[:, rows, None] - t[:, None, block.start :]
        ds = s[:, rows, None] - s[:, None, block.start :]
        p, slope = agreement(dt, ds, k)
        total += p[..., size:].sum(dim=(1, 2)) + 0.5 * p[..., :size].sum(dim=(1, 2))
        if wants_gradient:
            gradient[:, rows] += slope.sum(dim=2)
            gradient[:, block.stop :] -= slope[..., size:].sum(dim=1)
    scale = -2.0 / (channels * (channels - 1))
    return total * scale, gradient * scale
