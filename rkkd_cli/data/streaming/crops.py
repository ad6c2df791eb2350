"""Crops of images of any size, by torchvision's transforms.

The global generator is neither used nor moved: each crop is drawn from a seed of its own.
"""

from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image
from torchvision.transforms import v2

# A held-out image's shorter side, as a multiple of the crop's side.
HELD_OUT_SCALE = 256 / 224


class Crop(NamedTuple):
    """Turns an image into ``size``×``size`` pixels.

    Modes:
        random: a crop of random area and aspect ratio, resized; half of the crops are flipped if
            ``flip``. As torchvision's reference scripts train.
        held_out: the shorter side resized to size · 256 / 224, then a centre crop. As torchvision's
            reference scripts evaluate.
        centre: the shorter side resized to ``size``, then a centre crop. As for images in memory.
    """

    size: int
    mode: Literal["random", "held_out", "centre"]
    flip: bool = False

    def cut(self, image: Image.Image, seed: int = 0) -> Image.Image:
        """Return the cropped image. Raises DecompressionBombError if resizing it makes a giant."""
        if self.mode == "centre":
            return centre_crop(image, self.size)
        cropped: Image.Image
        if self.mode == "held_out":
            _refuse_giant(_shorter_side(self.size), image)
            cropped = _transform(self)(image)
            return cropped
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed)
            cropped = _transform(self)(image)
        return cropped


@cache
def _transform(crop: Crop) -> Any:
    if crop.mode == "held_out":
        return v2.Compose([v2.Resize(_shorter_side(crop.size)), v2.CenterCrop(crop.size)])
    flip = [v2.RandomHorizontalFlip()] if crop.flip else []
    return v2.Compose([v2.RandomResizedCrop(crop.size), *flip])


def _shorter_side(size: int) -> int:
    return round(HELD_OUT_SCALE * size)


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to ``size`` (bicubic) and crop the centre."""
    _refuse_giant(size, image)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return resized.crop((left, top, left + size, top + size))


def _refuse_giant(shorter_side: int, image: Image.Image) -> None:
    """Raise DecompressionBombError if the image has too many pixels with that shorter side."""
    pixels = shorter_side**2 * max(image.size) / min(image.size)
    if pixels > (Image.MAX_IMAGE_PIXELS or 0):
        raise Image.DecompressionBombError
