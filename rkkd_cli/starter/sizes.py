"""Image size, models and recipe that belong together: small images, or photographs."""

from typing import NamedTuple

from rkkd_cli.config.untrusted import LIBRARY_PREFIXES
from rkkd_cli.data.headers import Headers

PHOTOGRAPH = 224  # the size that networks of ImageNet are made for
SMALL_SIDES = (32, 64)  # of images that networks of CIFAR are made for
SMALLEST, LARGEST_SMALL = 4, 96  # images all of one size up to here keep it
ENOUGH_FOR_PHOTOGRAPHS = 128  # the median of the shorter sides


class Recipe(NamedTuple):
    """A published recipe: the learning rate ``lr`` for a batch of ``lr_batch`` images, and others.

    ``largest_batch``: what is taken of a folder with images enough. ``source``: whose recipe it is.
    """

    largest_batch: int
    lr: float
    lr_batch: int
    weight_decay: float
    source: str


CIFAR = Recipe(64, 0.05, 64, 5e-4, "the recipe of RepDistiller and mdistiller for small images")
IMAGENET = Recipe(32, 0.1, 256, 1e-4, "torchvision's reference recipe for ImageNet")


class Scale(NamedTuple):
    """How large images are made, and the usual models and recipe for images of that size."""

    side: int
    is_small: bool
    student: str
    teacher: str
    recipe: Recipe


def scale_for(headers: Headers, student: str | None) -> Scale:
    """Return the scale for images with these headers, and for a student if one is named."""
    is_zoo = student is not None and ":" not in student
    is_library = student is not None and student.startswith(LIBRARY_PREFIXES)
    side = _side(headers, may_be_large=not is_zoo)
    is_small = side < PHOTOGRAPH
    recipe = CIFAR if is_small and not is_library else IMAGENET
    names = ("resnet8", "resnet20")
    if not is_small:
        names = ("torchvision:resnet18", "torchvision:resnet50")
    return Scale(side, is_small, student=names[0], teacher=names[1], recipe=recipe)


def _side(headers: Headers, may_be_large: bool) -> int:
    typical = headers.typical_side
    if len(headers.sizes) == 1 and typical <= LARGEST_SMALL:
        return max(SMALLEST, typical)
    if may_be_large and typical >= ENOUGH_FOR_PHOTOGRAPHS:
        return PHOTOGRAPH
    fitting = [side for side in SMALL_SIDES if side <= typical]
    return fitting[-1] if fitting else max(SMALLEST, typical)
