"""Crops of images of any size, for training and for evaluation. Imports no torch.

The operations give the pixels of torchvision's v2 transforms on PIL images. Random numbers come
from :class:`random.Random`, whose sequence is the same in every Python version and process.
"""

import math
from random import Random
from typing import Literal, NamedTuple

from PIL import Image

# Defaults of torchvision.transforms.v2.RandomResizedCrop (Szegedy et al., arXiv 1409.4842).
AREA_RANGE = (0.08, 1.0)
ASPECT_RANGE = (3 / 4, 4 / 3)
MAX_TRIES = 10
# A held-out image's shorter side, as a multiple of the crop's side.
HELD_OUT_SCALE = 256 / 224

Box = tuple[int, int, int, int]


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

    def __call__(self, image: Image.Image, seed: int) -> Image.Image:
        """Return the cropped image. Raises DecompressionBombError if resizing it makes a giant."""
        if self.mode == "held_out":
            return _held_out_crop(image, self.size)
        if self.mode == "centre":
            return centre_crop(image, self.size)
        rng = Random(seed)
        crop = image.crop(random_box(*image.size, rng))
        crop = crop.resize((self.size, self.size), Image.Resampling.BILINEAR)
        is_flipped = rng.random() < 0.5 and self.flip
        return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if is_flipped else crop


def random_box(width: int, height: int, rng: Random) -> Box:
    """Return a random crop (left, top, right, bottom) of a width × height image.

    Area (uniform) and aspect ratio (log-uniform) are drawn until they fit, at most ten times. If
    none fits, the result is the largest centred box of an allowed aspect ratio.
    """
    for _ in range(MAX_TRIES):
        area = width * height * (AREA_RANGE[0] + (AREA_RANGE[1] - AREA_RANGE[0]) * rng.random())
        low, high = math.log(ASPECT_RANGE[0]), math.log(ASPECT_RANGE[1])
        aspect = math.exp(low + (high - low) * rng.random())
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(rng.random() * (height - h + 1))
            left = int(rng.random() * (width - w + 1))
            return left, top, left + w, top + h
    aspect = min(max(width / height, ASPECT_RANGE[0]), ASPECT_RANGE[1])
    w, h = min(width, max(1, round(height * aspect))), min(height, max(1, round(width / aspect)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _held_out_crop(image: Image.Image, size: int) -> Image.Image:
    shorter_side = round(HELD_OUT_SCALE * size)
    width, height = (shorter_side * side // min(image.size) for side in image.size)
    _refuse_giant(width, height)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return resized.crop((left, top, left + size, top + size))


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to ``size`` (bicubic) and crop the centre."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    _refuse_giant(width, height)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return resized.crop((left, top, left + size, top + size))


def _refuse_giant(width: int, height: int) -> None:
    if width * height > (Image.MAX_IMAGE_PIXELS or 0):
        raise Image.DecompressionBombError
