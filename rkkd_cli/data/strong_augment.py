"""The strong view of images: two random operations, then a grey square, as in MLKD's code.

Shapes: B batch, C channels; pixels (B, C, H, W) uint8.
"""

import torch
from torch import Tensor

from rkkd_cli.data import operations
from rkkd_cli.data.operations import Operation
from rkkd_cli.errors import UserError

GREY = (125, 123, 114)  # colour of the square; grey images get its mean
MAX_SQUARE_FRACTION = 0.5  # of the image's side
OPERATIONS_PER_IMAGE = 2
ALL_IMAGES = slice(None)


def _translate_x(pixels: Tensor, fraction: Tensor) -> Tensor:
    return operations.translate_x(pixels, (fraction * pixels.shape[3]).round())


def _translate_y(pixels: Tensor, fraction: Tensor) -> Tensor:
    return operations.translate_y(pixels, (fraction * pixels.shape[2]).round())


# Each operation with the lowest and highest strength.
OPERATIONS: tuple[tuple[Operation, float, float], ...] = (
    (operations.auto_contrast, 0.0, 1.0),
    (operations.brightness, 0.05, 0.95),
    (operations.saturation, 0.05, 0.95),
    (operations.contrast, 0.05, 0.95),
    (operations.equalize, 0.0, 1.0),
    (operations.identity, 0.0, 1.0),
    (operations.posterize, 4.0, 8.0),
    (operations.rotate, -30.0, 30.0),
    (operations.sharpness, 0.05, 0.95),
    (operations.shear_x, -0.3, 0.3),
    (operations.shear_y, -0.3, 0.3),
    (operations.solarize, 0.0, 256.0),
    (_translate_x, -0.3, 0.3),
    (_translate_y, -0.3, 0.3),
)


class StrongView:
    """Two random operations for each image, then a grey square of up to half its side.

    Operations, ranges and square are those of MLKD's code (after FixMatch, Sohn et al., arXiv
    2001.07685; RandAugment, Cubuk et al., arXiv 1909.13719). MLKD draws a strength for each image;
    here it is drawn for each operation of the batch.

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
    draws = torch.rand(len(OPERATIONS), generator=generator).double()
    functions, lowest, highest = zip(*OPERATIONS, strict=True)
    low, high = (torch.tensor(ends, dtype=torch.float64) for ends in (lowest, highest))
    strengths = low + (high - low) * draws
    return operations.apply_chosen(pixels, functions, chosen, strengths[chosen])


def _within(centres: Tensor, sides: Tensor, length: int) -> Tensor:
    """Return which of ``length`` positions lie within each square, (B, length)."""
    positions = torch.arange(length, device=centres.device)
    start = (centres - sides / 2).clamp(min=0).floor()
    return (positions >= start[:, None]) & (positions <= (start + sides)[:, None])
