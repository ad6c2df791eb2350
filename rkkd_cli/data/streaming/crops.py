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

# How an image of another shape is made to fit a square; see fit().
Fit = Literal["crop", "squash", "pad"]


class Crop(NamedTuple):
    """Turns an image into ``size``×``size`` pixels.

    Modes:
        random: a crop of random area and aspect ratio, resized; half of the crops are flipped if
            ``flip``. As torchvision's reference scripts train.
        window: the shorter side resized to size · 256 / 224, then a random window; half of the
            windows are flipped if ``flip``. As metric learning trains.
        held_out: the shorter side resized to size · 256 / 224, then a centre crop. As torchvision's
            reference scripts evaluate.
        crop, squash, pad: the ways in which images in memory are made to fit; see :func:`fit`.
    """

    size: int
    mode: Literal["random", "window", "held_out", "crop", "squash", "pad"]
    flip: bool = False

    def cut(self, image: Image.Image, seed: int = 0) -> Image.Image:
        """Return the cropped image. Raises DecompressionBombError if resizing it makes a giant."""
        cropped: Image.Image
        if self.mode == "held_out" or self.mode == "window":
            _refuse_giant(_shorter_side(self.size), image)
        if self.mode == "held_out":
            cropped = _transform(self)(image)
        elif self.mode == "random" or self.mode == "window":
            with torch.random.fork_rng(devices=()):
                torch.default_generator.manual_seed(seed)
                cropped = _transform(self)(image)
        else:
            cropped = fit(image, self.size, self.mode)
        return cropped


@cache
def _transform(crop: Crop) -> Any:
    scaled, flip = v2.Resize(_shorter_side(crop.size)), [v2.RandomHorizontalFlip()] * crop.flip
    if crop.mode == "held_out":
        return v2.Compose([scaled, v2.CenterCrop(crop.size)])
    if crop.mode == "window":
        return v2.Compose([scaled, v2.RandomCrop(crop.size), *flip])
    return v2.Compose([v2.RandomResizedCrop(crop.size), *flip])


def _shorter_side(size: int) -> int:
    return round(HELD_OUT_SCALE * size)


def fit(image: Image.Image, size: int, resize: Fit) -> Image.Image:
    """Return the image as ``size``×``size`` pixels, resized bicubically.

    ``crop``: the shorter side becomes ``size``, and the centre is cropped. ``squash``: both sides
    do, which changes the proportions. ``pad``: the longer side does, and black fills the rest.
    """
    if resize == "squash":
        return image.resize((size, size), Image.Resampling.BICUBIC)
    if resize == "crop":
        _refuse_giant(size, image)
    scale = size / (min(image.size) if resize == "crop" else max(image.size))
    least = size if resize == "crop" else 1
    width, height = (max(least, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return resized.crop((left, top, left + size, top + size))  # black outside of the image


def _refuse_giant(shorter_side: int, image: Image.Image) -> None:
    """Raise DecompressionBombError if the image has too many pixels with that shorter side."""
    pixels = shorter_side**2 * max(image.size) / min(image.size)
    if pixels > (Image.MAX_IMAGE_PIXELS or 0):
        raise Image.DecompressionBombError
