"""The strong view of images: two random operations and a grey square, as MLKD's code has it.

Shapes: B batch, C channels; pixels (B, C, H, W) uint8.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from rkkd_cli.errors import UserError

GREY = (125, 123, 114)  # of the square; its mean for grey images
LARGEST_SQUARE = 0.5  # of the image's side
OPERATIONS_AN_IMAGE = 2
WHOLE_BATCH = slice(None)

Operation = tuple[Callable[[Tensor, float], Tensor], float, float]


def _sheared(pixels: Tensor, x: float, y: float) -> Tensor:
    degrees = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    sheared: Tensor = F.affine(pixels, 0.0, [0, 0], 1.0, degrees, center=[0, 0])
    return sheared


def _moved(pixels: Tensor, x: float, y: float) -> Tensor:
    height, width = pixels.shape[-2:]
    by = [round(x * width), round(y * height)]
    moved: Tensor = F.affine(pixels, 0.0, by, 1.0, [0.0, 0.0])
    return moved


# Each operation with the range of its strength.
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
    "shear_x": (lambda x, v: _sheared(x, v, 0.0), -0.3, 0.3),
    "shear_y": (lambda x, v: _sheared(x, 0.0, v), -0.3, 0.3),
    "solarise": (lambda x, limit: F.solarize(x, min(255.0, limit)), 0.0, 256.0),
    "translate_x": (lambda x, v: _moved(x, v, 0.0), -0.3, 0.3),
    "translate_y": (lambda x, v: _moved(x, 0.0, v), -0.3, 0.3),
}


class StrongView:
    """Two operations drawn for each image, then a grey square of up to half its side.

    Operations, ranges and square are those of MLKD's code (after FixMatch, Sohn et al., arXiv
    2001.07685; RandAugment, Cubuk et al., arXiv 1909.13719). There the strength is drawn for each
    image; here for each operation in a batch, so that images with the same one are changed at once.

    Raises UserError for images that are neither grey nor RGB.
    """

    def __init__(self, in_channels: int) -> None:
        if in_channels not in (1, 3):
            raise UserError(
                f"the strong view augments grey and RGB images, not those of {in_channels} channels"
            )
        self.grey = GREY if in_channels == 3 else (round(sum(GREY) / 3),)

    def __call__(
        self, pixels: Tensor, seed: int, places: slice = WHOLE_BATCH, whole: int | None = None
    ) -> Tensor:
        """Return the images augmented; a fixed function of them and of ``seed``.

        Images that are those at ``places`` of a batch of ``whole`` become what they become in it.
        """
        generator = torch.Generator().manual_seed(seed)
        whole = len(pixels) if whole is None else whole
        for _ in range(OPERATIONS_AN_IMAGE):
            chosen = torch.randint(len(OPERATIONS), (whole,), generator=generator)[places]
            pixels = _operated(pixels, chosen, generator)
        sides, x, y = torch.rand(3, whole, generator=generator)[:, places].to(pixels.device)
        return self._with_squares(pixels, sides, x, y)

    def _with_squares(self, pixels: Tensor, sides: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the images with squares; all that says where (B,) are shares of the sides."""
        height, width = pixels.shape[-2:]
        sides = sides * LARGEST_SQUARE * width
        inside = _within(y * height, sides, height)[:, None, :, None]
        inside = inside & _within(x * width, sides, width)[:, None, None, :]
        grey = torch.tensor(self.grey, dtype=torch.uint8, device=pixels.device)
        return torch.where(inside, grey.view(1, -1, 1, 1), pixels)


def _operated(pixels: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Return the images after one operation each, the chosen (B,)."""
    shares = torch.rand(len(OPERATIONS), generator=generator).tolist()
    changed = pixels.clone()
    for number, (operation, least, most) in enumerate(OPERATIONS.values()):
        places = (chosen == number).nonzero().flatten().to(pixels.device)
        if len(places):
            strength = least + (most - least) * shares[number]
            changed[places] = operation(pixels[places], strength)
    return changed


def _within(centres: Tensor, sides: Tensor, length: int) -> Tensor:
    """Return which of ``length`` positions lie within each square, (B, length)."""
    positions = torch.arange(length, device=centres.device)
    start = (centres - sides / 2).clamp(min=0).floor()
    return (positions >= start[:, None]) & (positions <= (start + sides)[:, None])
