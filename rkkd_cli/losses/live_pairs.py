"""The pairs that the ranking loss still has a gradient for: a diagnostic of its saturation."""

import math

import torch
from torch import Tensor

from rkkd_cli.losses.kernels.torch_blocks import pair_blocks
from rkkd_cli.losses.ranked_rows import RankingSettings, per_image, ranked_rows
from rkkd_cli.losses.rows import paired_rows
from rkkd_cli.losses.surrogates import LIVE_LIMITS


@torch.no_grad()
def live_pairs_per_image(
    student_logits: Tensor, teacher_logits: Tensor, settings: RankingSettings
) -> Tensor:
    """Return the share of live pairs among the pairs of classes of each image, (B,).

    A pair is live if its slope is more than a hundredth of what it would be were its classes tied
    in the student: φ'(kΔs) > 0.01·φ'(0). For tanh this is 1 − tanh²(kΔs) > 0.01 or |Δs| < 2.99/k,
    for ``tanh_product`` |Δt·Δs| < 2.99/k. The pairs are those that the settings rank: where these
    are images, each image has the share of the batch.
    """
    limit = LIVE_LIMITS[settings.surrogate] / settings.steepness
    shares = []
    for s, t, counts in ranked_rows(paired_rows(student_logits, teacher_logits), settings):
        pairs: float | Tensor = max(1, math.comb(s.shape[1], 2))
        if counts is not None:  # what is not finite is close to nothing
            is_padding = torch.arange(s.shape[1], device=s.device) >= counts[:, None]
            s = s.masked_fill(is_padding, math.inf)
            pairs = counts * (counts - 1) / 2
        if settings.surrogate == "tanh_product":
            live = _count_close_products(s, t, limit)
        else:
            live = _count_close(s, limit)
        shares.append(live.to(s.dtype) / pairs)
    return per_image(shares, settings, len(student_logits))


def _count_close(s: Tensor, limit: float) -> Tensor:
    """Return how many pairs in each row differ by less than ``limit``; NaN is close to nothing."""
    x = s.masked_fill(~s.isfinite(), math.inf).contiguous().sort(dim=1).values
    # Of each entry: how many are below x + limit, less those up to itself. Where x + limit is x,
    # that would be less than none.
    up_to_itself = torch.arange(1, s.shape[1] + 1, device=s.device)
    above = torch.searchsorted(x, x + limit) - up_to_itself
    return above.clamp(min=0).sum(dim=1)


def _count_close_products(s: Tensor, t: Tensor, limit: float) -> Tensor:
    """Return how many pairs in each row have a |Δs·Δt| below ``limit``."""
    count = torch.zeros(len(s), dtype=torch.int64, device=s.device)
    for block in pair_blocks(*s.shape):
        is_close = (block.differences(s) * block.differences(t)).abs() < limit
        count += is_close.triu(1).sum(dim=(1, 2))
    return count
