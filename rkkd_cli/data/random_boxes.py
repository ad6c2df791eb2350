"""Random boxes of a given range of areas and aspect ratios: crops, and what is erased.

Shapes: N images; boxes (N, 4) int64: top, left, height, width in pixels.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

ATTEMPTS = 10  # to draw a box that fits, as in torchvision
CROP_AREA, CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
ERASED_AREA, ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)

Uniform = Callable[[int], Tensor]  # so many numbers in [0, 1) for each image, (N, count) float64


def crop_boxes(uniform: Uniform, height: int, width: int) -> Tensor:
    """Return the boxes of torchvision's RandomResizedCrop.

    Area: 8 to 100 % of the image's; width / height: 3/4 to 4/3, uniform in its logarithm. If none
    of ten boxes fits, the box is the largest one in the centre with an allowed ratio.
    """
    ratio = min(max(width / height, CROP_RATIO[0]), CROP_RATIO[1])
    size = min(height, round(width / ratio)), min(width, round(height * ratio))
    heights, widths = _sizes(uniform, CROP_AREA, CROP_RATIO, height, width)
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    boxes, found = _first_that_fits(uniform, heights, widths, fits, height, width)
    centred = torch.tensor([(height - size[0]) // 2, (width - size[1]) // 2, *size])
    return torch.where(found[:, None], boxes, centred)


def erased_boxes(uniform: Uniform, height: int, width: int) -> Tensor:
    """Return the boxes of torchvision's RandomErasing; empty if none of ten fits.

    Area: 2 to 33 % of the image's; height / width: 0.3 to 3.3, uniform in its logarithm.
    """
    widths, heights = _sizes(uniform, ERASED_AREA, ERASED_RATIO, height, width)
    fits = (heights < height) & (widths < width)
    boxes, found = _first_that_fits(uniform, heights, widths, fits, height, width)
    return boxes * found[:, None]


def _sizes(
    uniform: Uniform,
    areas: tuple[float, float],
    ratios: tuple[float, float],
    height: int,
    width: int,
) -> tuple[Tensor, Tensor]:
    """Return the two sides of each attempt, (N, 10); the second is ``ratio`` times the first."""
    area = height * width * (areas[0] + (areas[1] - areas[0]) * uniform(ATTEMPTS))
    low, high = map(math.log, ratios)
    ratio = (low + (high - low) * uniform(ATTEMPTS)).exp()
    first, second = (area / ratio).sqrt(), (area * ratio).sqrt()
    return first.round().long(), second.round().long()


def _first_that_fits(
    uniform: Uniform, heights: Tensor, widths: Tensor, fits: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Return the first box of each image that fits, anywhere in the image, and whether one does."""
    first = fits.long().argmax(dim=1, keepdim=True)
    heights, widths = heights.gather(1, first)[:, 0], widths.gather(1, first)[:, 0]
    place = uniform(2)
    tops = (place[:, 0] * (height - heights + 1)).long()
    lefts = (place[:, 1] * (width - widths + 1)).long()
    return torch.stack([tops, lefts, heights, widths], dim=1), fits.any(dim=1)


def resized_crops(pixels: Tensor, boxes: Tensor, flipped: Tensor) -> Tensor:
    """Return the box of each image, scaled bilinearly to the image's size; mirrored if ``flipped``.

    ``pixels`` (N, C, H, W) uint8; ``boxes`` and ``flipped`` (N,) on the CPU. The values are what
    torchvision's ``resized_crop`` gives for float32 pixels, rounded: no box is larger than the
    result, so antialiasing changes nothing. (For uint8 on a CPU, torchvision computes in whole
    numbers, which may differ by 1.)
    """
    top, left, heights, widths = boxes.unbind(1)
    columns = _neighbours(left, widths, pixels.shape[3])
    mirrored = (torch.where(flipped[:, None], values.flip(1), values) for values in columns)
    rows = _between(pixels.transpose(1, 2), *_neighbours(top, heights, pixels.shape[2]))
    crops = _between(rows.transpose(1, 3).contiguous(), *mirrored).round_().to(torch.uint8)
    return crops.transpose(1, 3).transpose(1, 2)


def _neighbours(start: Tensor, length: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return, for ``count`` places over each box, two neighbouring pixels and the second's share.

    All (N, count). Pixels beyond the box are those at its edge.
    """
    centres = torch.arange(count, dtype=torch.float64) + 0.5
    places = (centres * (length[:, None] / count) - 0.5).clamp(min=0)
    first = places.long()
    second = torch.minimum(first + 1, length[:, None] - 1)
    return start[:, None] + first, start[:, None] + second, (places - first).float()


def _between(values: Tensor, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Return (1 − share) · values[n, first[n]] + share · values[n, second[n]], float32.

    The first two dimensions of ``values`` are those of the others; what follows is copied whole.
    """
    image = torch.arange(len(values), device=values.device)[:, None]
    first, second, share = (
        one.to(values.device, non_blocking=True) for one in (first, second, share)
    )
    one, other = values[image, first].float(), values[image, second].float()
    share = share[:, :, None, None]
    return one.mul_(1 - share).add_(other.mul_(share))
