"""The strong view of images: RandAugment and a grey square, as multi-level distillation wants it.

Shapes: B batch, C channels; pixels (B, C, H, W) uint8.
"""

import torch
from torch import Tensor
from torchvision.transforms import v2

from rkkd_cli.errors import UserError

GREY = 124  # about the mean of natural images


class StrongView:
    """Two operations of RandAugment (magnitude 10 of 31), then a grey square of up to a quarter.

    MLKD's own code draws the magnitude and the square's side (up to half of the image's) anew for
    each image; here torchvision's RandAugment has one magnitude.

    Raises UserError for images that are neither grey nor RGB. Source: Cubuk et al., arXiv
    1909.13719; the square as in FixMatch (Sohn et al., arXiv 2001.07685).
    """

    def __init__(self, in_channels: int) -> None:
        if in_channels not in (1, 3):
            raise UserError(
                f"the strong view augments grey and RGB images, not those of {in_channels} channels"
            )
        self.augment = v2.Compose(
            [
                v2.RandAugment(num_ops=2, magnitude=10),
                v2.RandomErasing(p=1.0, scale=(1e-3, 0.25), ratio=(1.0, 1.0), value=GREY),
            ]
        )

    def __call__(self, pixels: Tensor, seed: int) -> Tensor:
        """Return every image augmented with draws of its own, a fixed function of ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return torch.stack([self.augment(one) for one in pixels])
