"""The strong view of images: two random operations, then a grey square, as in MLKD's code.

Shapes: B batch, C channels; pixels (B, C, H, W) uint8.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from rkkd_cli.errors import UserError

GREY = (125, 123, 114)  # colour of the square; grey images get its mean
MAX_SQUARE_FRACTION = 0.5  # of the image's side
OPERATIONS_PER_IMAGE = 2
ALL_IMAGES = slice(None)

Operation = tuple[Callable[[Tensor, float], Tensor], float, float]


def _shear(pixels: Tensor, x: float, y: float) -> Tensor:
    degrees = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    sheared: Tensor = F.affine(pixels, 0.0, [0, 0], 1.0, degrees, center=[0, 0])
    return sheared


def _translate(pixels: Tensor, x: float, y: float) -> Tensor:
    height, width = pixels.shape[-2:]
    offset = [round(x * width), round(y * height)]
    translated: Tensor = F.affine(pixels, 0.0, offset, 1.0, [0.0, 0.0])
    return translated


# Each operation with the lowest and highest strength.
OPERATIONS: dict[str, Operation] = {
    "auto_contrast": (lambda x, _: F.autocontrast(x), 0.0, 1.0),
    "brightness": (F.adjust_brightness, 0.05, 0.95),
    "colour": (F.adjust_saturation, 0.05, 0.95),
    "contrast": (F.adjust_contrast, 0.05, 0.95),
    "equalise": (lambda x, _: F.equalize(x), 0.0, 1.0),
    "identity": (lambda x, _: x, 0.0, 1.0),
    "posterise": (lambda x, bits: F.posterize(x, max(1, int(bits))), 4.0, 8.0),
    "rotate": (F.rotate, -30.0, 30.0),
    "sharpness": (F.adjust_sharpness, 0.05, 0.95),
    "shear_x": (lambda x, v: _shear(x, v, 0.0), -0.3, 0.3),
    "shear_y": (lambda x, v: _shear(x, 0.0, v), -0.3, 0.3),
    "solarise": (lambda x, limit: F.solarize(x, min(255.0, limit)), 0.0, 256.0),
    "translate_x": (lambda x, v: _translate(x, v, 0.0), -0.3, 0.3),
    "translate_y": (lambda x, v: _translate(x, 0.0, v), -0.3, 0.3),
}


class StrongView:
    """Two random operations for each image, then a grey square of up to half its side.

    Operations, ranges and square are those of MLKD's code (after FixMatch, Sohn et al., arXiv
    2001.07685; RandAugment, Cubuk et al., arXiv 1909.13719). MLKD draws a strength for each image;
    here it is drawn for each operation, so that one call serves all images with that operation.

    Raises UserError for images that are neither grey nor RGB.
    """

    def __init__(self, in_channels: int) -> None:
        if in_channels not in (1, 3):
            raise UserError(
                f"the strong view augments grey and RGB images, not those of {in_channels} channels"
            )
        self.grey = GREY if in_channels == 3 else (round(sum(GREY) / 3),)

    def __call__(
        self,
        pixels: Tensor,
        seed: int,
        within_batch: slice = ALL_IMAGES,
        batch_size: int | None = None,
    ) -> Tensor:
        """Return the augmented images, a fixed function of the images and ``seed``.

        If ``pixels`` are only the slice ``within_batch`` of a batch of ``batch_size`` images, the
        result is that slice of the augmented batch.
        """
        generator = torch.Generator().manual_seed(seed)
        batch_size = len(pixels) if batch_size is None else batch_size
        for _ in range(OPERATIONS_PER_IMAGE):
            chosen = torch.randint(len(OPERATIONS), (batch_size,), generator=generator)
            pixels = _apply_operations(pixels, chosen[within_batch], generator)
        squares = torch.rand(3, batch_size, generator=generator)[:, within_batch]
        sides, x, y = squares.to(pixels.device)
        return self._paste_squares(pixels, sides, x, y)

    def _paste_squares(self, pixels: Tensor, sides: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Paste a grey square into each image.

        ``sides``, ``x`` and ``y`` (B,) are in [0, 1]: the square's side as a fraction of the
        largest one, its centre as a fraction of the image's sides.
        """
        height, width = pixels.shape[-2:]
        sides = sides * MAX_SQUARE_FRACTION * width
        inside = _within(y * height, sides, height)[:, None, :, None]
        inside = inside & _within(x * width, sides, width)[:, None, None, :]
        grey = torch.tensor(self.grey, dtype=torch.uint8, device=pixels.device)
        return torch.where(inside, grey.view(1, -1, 1, 1), pixels)


def _apply_operations(pixels: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Apply to each image the operation whose index is ``chosen`` (B,) for it."""
    draws = torch.rand(len(OPERATIONS), generator=generator).tolist()
    augmented = pixels.clone()
    for index, (operation, lowest, highest) in enumerate(OPERATIONS.values()):
        images = (chosen == index).nonzero().flatten().to(pixels.device)
        if len(images):
            strength = lowest + (highest - lowest) * draws[index]
            augmented[images] = operation(pixels[images], strength)
    return augmented


def _within(centres: Tensor, sides: Tensor, length: int) -> Tensor:
    """Return which of ``length`` positions lie within each square, (B, length)."""
    positions = torch.arange(length, device=centres.device)
    start = (centres - sides / 2).clamp(min=0).floor()
    return (positions >= start[:, None]) & (positions <= (start + sides)[:, None])
