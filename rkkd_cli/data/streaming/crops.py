"""What is cut out of an image of any size: training crops and the middle. No torch in here.

The operations are those of torchvision's v2 transforms on PIL images, whose pixels they give; the
draws are of :class:`random.Random`, whose numbers are the same in every version and process.
"""

import math
from random import Random
from typing import Literal, NamedTuple

from PIL import Image

CROPS = ("padded", "resized")

# Defaults of torchvision.transforms.v2.RandomResizedCrop (Szegedy et al., arXiv 1409.4842).
AREA = (0.08, 1.0)
SHAPE = (3 / 4, 4 / 3)
TRIES = 10
MARGIN = 256 / 224  # a held-out image's shorter side in sizes of the crop

Box = tuple[int, int, int, int]


class Cut(NamedTuple):
    """How an image becomes ``size``×``size`` pixels.

    ``random``: a crop of random area and shape, scaled, and flipped in half of the cases if
    ``flip``. ``held_out``: the shorter side scaled to size·256/224 and the middle cut out. Both as
    torchvision's references train and evaluate. ``centre``: as images in memory are, see decode.py.
    """

    size: int
    way: Literal["random", "held_out", "centre"]
    flip: bool = False

    def __call__(self, image: Image.Image, seed: int) -> Image.Image:
        """Return the pixels of the image. Raises DecompressionBombError for a scaled giant."""
        if self.way == "random":
            return _random_crop(image, self.size, self.flip, Random(seed))
        if self.way == "held_out":
            return _middle(_scaled(image, round(MARGIN * self.size)), self.size)
        return centred(image, self.size)


def _random_crop(image: Image.Image, size: int, flip: bool, draws: Random) -> Image.Image:
    crop = image.crop(random_box(*image.size, draws))
    crop = crop.resize((size, size), Image.Resampling.BILINEAR)
    is_flipped = draws.random() < 0.5 and flip
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if is_flipped else crop


def random_box(width: int, height: int, draws: Random) -> Box:
    """Return (left, top, right, bottom): area and shape are drawn until they fit, ten times.

    The area is uniform, the shape uniform in its logarithm. What never fits becomes the largest
    centred box of an allowed shape.
    """
    for _ in range(TRIES):
        area = width * height * (AREA[0] + (AREA[1] - AREA[0]) * draws.random())
        low, high = math.log(SHAPE[0]), math.log(SHAPE[1])
        shape = math.exp(low + (high - low) * draws.random())
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            top = int(draws.random() * (height - h + 1))
            left = int(draws.random() * (width - w + 1))
            return left, top, left + w, top + h
    shape = min(max(width / height, SHAPE[0]), SHAPE[1])
    w, h = min(width, max(1, round(height * shape))), min(height, max(1, round(width / shape)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _scaled(image: Image.Image, shorter: int) -> Image.Image:
    short = min(image.size)
    width, height = (shorter * side // short for side in image.size)
    _refuse_giant(width, height)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _middle(image: Image.Image, size: int) -> Image.Image:
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def centred(image: Image.Image, size: int) -> Image.Image:
    """Return the shorter side scaled to ``size``, bicubic, and the middle cut out."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    _refuse_giant(width, height)
    scaled = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return scaled.crop((left, top, left + size, top + size))


def _refuse_giant(width: int, height: int) -> None:
    if width * height > (Image.MAX_IMAGE_PIXELS or 0):
        raise Image.DecompressionBombError
