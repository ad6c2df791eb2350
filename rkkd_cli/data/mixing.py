"""mixup and CutMix: each image of a batch is mixed with the one before it, the first with the last.

Shapes: B batch, C channels; images (B, C, H, W), normalised.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rkkd_cli.data.batch_draws import BatchDraws
from rkkd_cli.data.targets import Mixed, Targets


class Mix(NamedTuple):
    """How a batch is mixed: each image keeps the ``share`` of itself.

    With a ``box`` (top, bottom, left, right) that part is the other image's (CutMix); without, all
    pixels are averaged (mixup).
    """

    share: float
    box: tuple[int, int, int, int] | None = None

    def images(self, own: Tensor, other: Tensor) -> Tensor:
        """Return the mixed images."""
        if self.box is None:
            return other.mul(1.0 - self.share).add_(own.mul(self.share))
        top, bottom, left, right = self.box
        mixed = own.clone()
        mixed[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
        return mixed

    def targets(self, own: Tensor, other: Tensor) -> Targets:
        """Return the classes (B,) of the larger share, with the others."""
        share = torch.full((), max(self.share, 1 - self.share), device=own.device)
        if self.share < 0.5:
            own, other = other, own
        return Targets(own, Mixed(other, share))


class Mixing(NamedTuple):
    """mixup with λ ~ Beta(α, α), CutMix, or each for half of the batches; α = 0: without it.

    As torchvision's MixUp and CutMix and its reference scripts. Sources: Zhang et al., arXiv
    1710.09412; Yun et al., arXiv 1905.04899.
    """

    mixup_alpha: float
    cutmix_alpha: float

    def draw(self, draws: BatchDraws, height: int, width: int) -> Mix:
        """Return how a batch of images of this size is mixed."""
        generator = np.random.default_rng(draws.generator("mixing").initial_seed())
        is_mixup = self.mixup_alpha > 0
        if self.mixup_alpha and self.cutmix_alpha:
            is_mixup = bool(generator.random() < 0.5)
        alpha = self.mixup_alpha if is_mixup else self.cutmix_alpha
        share = float(generator.beta(alpha, alpha))
        if is_mixup:
            return Mix(share)
        return cut_box(share, (generator.random(), generator.random()), height, width)


def cut_box(share: float, centre: tuple[float, float], height: int, width: int) -> Mix:
    """Return CutMix with a box of 1 − ``share`` of the area, cut off at the image's edge.

    ``centre``: row and column as fractions of the image's sides. The result's share is exact.
    """
    row, column = int(centre[0] * height), int(centre[1] * width)
    half = 0.5 * math.sqrt(1.0 - share)
    half_height, half_width = int(half * height), int(half * width)
    top, bottom = max(row - half_height, 0), min(row + half_height, height)
    left, right = max(column - half_width, 0), min(column + half_width, width)
    area = (bottom - top) * (right - left)
    return Mix(1.0 - area / (height * width), (top, bottom, left, right))
