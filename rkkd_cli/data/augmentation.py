"""What is done to training images after their crops and flips, on the device and by batch.

In the order of torchvision's reference scripts: RandAugment or TrivialAugment, colour jitter,
normalisation, random erasing, then mixup or CutMix.

Shapes: B batch, C channels; pixels (B, C, H, W) uint8, images the same in float32, normalised.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from rkkd_cli.data import operations
from rkkd_cli.data.auto_augment import AutoAugment
from rkkd_cli.data.batch_draws import BatchDraws
from rkkd_cli.data.mixing import Mixing
from rkkd_cli.data.random_boxes import erased_boxes
from rkkd_cli.errors import UserError

JITTERED = (operations.brightness, operations.contrast, operations.saturation, operations.hue)


@dataclass(frozen=True)
class Augmentation:
    """The augmentations; none by default. The names are those of torchvision's scripts and timm.

    ``auto_augment``: ``rand`` or ``trivial``; ``ra_magnitude`` (of 0 to 30) and ``ra_num_ops`` are
    RandAugment's, 9 and 2 where they are None. ``color_jitter``: how far brightness, contrast,
    saturation and hue are changed, one number for the first three or a number each.
    ``random_erase``: the share of the images from which a box is erased. ``mixup_alpha`` and
    ``cutmix_alpha``: the parameter of the Beta distribution of a mix.
    """

    auto_augment: str | None = None
    ra_magnitude: int | None = None
    ra_num_ops: int | None = None
    color_jitter: tuple[float, ...] | None = None
    random_erase: float = 0.0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0

    @property
    def used(self) -> dict[str, Any]:
        """The settings that differ from the default ones."""
        off = asdict(NO_AUGMENTATION)
        return {key: value for key, value in asdict(self).items() if value != off[key]}

    @property
    def mixing(self) -> Mixing | None:
        """How images are mixed, if they are."""
        mixes = self.mixup_alpha > 0 or self.cutmix_alpha > 0
        return Mixing(self.mixup_alpha, self.cutmix_alpha) if mixes else None

    def check_channels(self, channels: int) -> None:
        """Raise UserError for operations on colours if the images are neither grey nor RGB."""
        for key in ("auto_augment", "color_jitter"):
            if getattr(self, key) is not None and channels not in (1, 3):
                raise UserError(
                    f"dataset.{key} changes the colours of grey and RGB images, and these have "
                    f"{channels} channels; leave it out"
                )

    def change_pixels(self, pixels: Tensor, draws: BatchDraws) -> Tensor:
        """Return the pixels after RandAugment or TrivialAugment, and after colour jitter."""
        if self.auto_augment is not None:
            magnitude = 9 if self.ra_magnitude is None else self.ra_magnitude
            num_ops = 2 if self.ra_num_ops is None else self.ra_num_ops
            pixels = AutoAugment(self.auto_augment, magnitude, num_ops)(pixels, draws)
        if self.color_jitter is not None:
            pixels = self._jitter(pixels, draws)
        return pixels

    def _jitter(self, pixels: Tensor, draws: BatchDraws) -> Tensor:
        """Change brightness, contrast, saturation and hue, in a random order for each image."""
        assert self.color_jitter is not None
        given = self.color_jitter * 3 if len(self.color_jitter) == 1 else self.color_jitter
        spread = torch.tensor((*given, 0.0)[:4], dtype=torch.float64)
        centre = torch.tensor((1.0, 1.0, 1.0, 0.0), dtype=torch.float64)
        lowest = centre - spread
        lowest[:3].clamp_(min=0)
        generator = draws.generator("color_jitter")
        order = draws.uniform(generator, 4).argsort(dim=1)
        strengths = lowest + (centre + spread - lowest) * draws.uniform(generator, 4)
        functions = [
            operation if amount else operations.identity
            for operation, amount in zip(JITTERED, spread.tolist(), strict=True)
        ]
        for chosen in order.unbind(1):
            own = strengths.gather(1, chosen[:, None])[:, 0]
            pixels = operations.apply_chosen(pixels, functions, chosen, own)
        return pixels

    def erase(self, images: Tensor, draws: BatchDraws) -> Tensor:
        """Return the images with a box of zeros in a share of ``random_erase`` of them."""
        if not self.random_erase:
            return images
        generator, (height, width) = draws.generator("random_erase"), images.shape[2:]
        is_erased = draws.uniform(generator, 1) < self.random_erase
        boxes = erased_boxes(lambda count: draws.uniform(generator, count), height, width)
        boxes = (boxes * is_erased).to(images.device, non_blocking=True)
        tops, lefts, heights, widths = boxes.unbind(1)
        inside = _within(tops, heights, height)[:, None, :, None]
        inside = inside & _within(lefts, widths, width)[:, None, None, :]
        return images.masked_fill(inside, 0.0)


NO_AUGMENTATION = Augmentation()


def _within(start: Tensor, length: Tensor, count: int) -> Tensor:
    """Return which of ``count`` positions lie in each interval, (B, count)."""
    positions = torch.arange(count, device=start.device)
    return (positions >= start[:, None]) & (positions < (start + length)[:, None])
