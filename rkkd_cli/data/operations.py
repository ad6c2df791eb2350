"""torchvision's operations on images, with a strength of its own for each image of a batch.

Each gives what the operation of ``torchvision.transforms.v2.functional`` gives image by image, bit
for bit on a CPU (``hue``: up to rounding). Geometric ones take the nearest pixel, and black outside
of the image.

Shapes: B batch, C channels (1 or 3); pixels (B, C, H, W) uint8; strengths (B,) float64, on the CPU.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as F

Operation = Callable[[Tensor, Tensor], Tensor]


def apply_chosen(
    pixels: Tensor, operations: Sequence[Operation], chosen: Tensor, strengths: Tensor
) -> Tensor:
    """Apply to each image the operation whose index is ``chosen`` (B,), on the CPU, for it.

    Each operation runs once, on all of its images.
    """
    result = pixels.clone()
    for index, operation in enumerate(operations):
        images = (chosen == index).nonzero().flatten()
        if len(images):
            own = images.to(pixels.device, non_blocking=True)
            result[own] = operation(pixels[own], strengths[images])
    return result


def identity(pixels: Tensor, _: Tensor) -> Tensor:
    """Return the images as they are."""
    return pixels


def auto_contrast(pixels: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel to all values from 0 to 255."""
    stretched: Tensor = F.autocontrast(pixels)
    return stretched


def equalize(pixels: Tensor, _: Tensor) -> Tensor:
    """Give each channel a flat histogram."""
    equalized: Tensor = F.equalize(pixels)
    return equalized


def brightness(pixels: Tensor, factor: Tensor) -> Tensor:
    """Multiply by the factor; 1 changes nothing."""
    return _to_uint8(pixels * _on_images(factor, pixels))


def saturation(pixels: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image: factor 0 is grey, 1 changes nothing."""
    return _blend(pixels, F.rgb_to_grayscale(pixels), factor) if pixels.shape[1] > 1 else pixels


def contrast(pixels: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean of the grey image: factor 0 is even grey, 1 changes nothing."""
    grey = F.rgb_to_grayscale(pixels) if pixels.shape[1] > 1 else pixels
    return _blend(pixels, grey.float().mean(dim=(1, 2, 3), keepdim=True), factor)


def sharpness(pixels: Tensor, factor: Tensor) -> Tensor:
    """Blend with the smoothed image: factor 0 is smooth, 1 changes nothing."""
    difference = F.adjust_sharpness(pixels, 0.0) - pixels.float()
    return _to_uint8(torch.addcmul(pixels.float(), difference, _on_images(1 - factor, pixels)))


def posterize(pixels: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of each value."""
    lost = 2 ** (8 - bits.to(torch.int64))
    return pixels & _on_images(256 - lost, pixels, torch.uint8)


def solarize(pixels: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values from the threshold on. One above 255 counts as 255."""
    return torch.where(pixels >= _on_images(threshold.clamp(max=255), pixels), 255 - pixels, pixels)


def shear_x(pixels: Tensor, level: Tensor) -> Tensor:
    """Move each row to the left by ``level`` times its distance from the top."""
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    return _transform(pixels, one, level, level * pixels.shape[2] / 2, zero, one, zero)


def shear_y(pixels: Tensor, level: Tensor) -> Tensor:
    """Move each column up by ``level`` times its distance from the left."""
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    return _transform(pixels, one, zero, zero, level, one, level * pixels.shape[3] / 2)


def translate_x(pixels: Tensor, offset: Tensor) -> Tensor:
    """Move the image to the right by whole pixels; a fraction is cut off."""
    one, zero = torch.ones_like(offset), torch.zeros_like(offset)
    return _transform(pixels, one, zero, -offset.trunc(), zero, one, zero)


def translate_y(pixels: Tensor, offset: Tensor) -> Tensor:
    """Move the image down by whole pixels; a fraction is cut off."""
    one, zero = torch.ones_like(offset), torch.zeros_like(offset)
    return _transform(pixels, one, zero, zero, zero, one, -offset.trunc())


def rotate(pixels: Tensor, degrees: Tensor) -> Tensor:
    """Rotate about the centre, counter-clockwise."""
    angle, zero = -torch.deg2rad(degrees % 360), torch.zeros_like(degrees)
    return _transform(pixels, angle.cos(), angle.sin(), zero, -angle.sin(), angle.cos(), zero)


def hue(pixels: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue by a fraction of the colour circle, −0.5 to 0.5."""
    if pixels.shape[1] == 1:
        return pixels
    red, green, blue = (pixels.float() / 255).unbind(1)
    value, least = torch.maximum(torch.maximum(red, green), blue), pixels.amin(1).float() / 255
    chroma = value - least
    divisor = torch.where(chroma == 0, 1, chroma)
    sector = torch.where(
        value == red,
        (green - blue) / divisor % 6,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    turned = sector + 6 * _on_images(turn, pixels)[:, 0]
    channels = []
    for offset in (5, 3, 1):
        place = (offset + turned) % 6
        channels.append(value - chroma * torch.minimum(place, 4 - place).clamp(0, 1))
    # As torchvision scales to uint8: 1 is the only fraction that becomes 255.
    return (torch.stack(channels, dim=1) * 255.999).to(torch.uint8)


def _on_images(values: Tensor, pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return values (B,) as (B, 1, 1, 1) on the device of the images."""
    return values.to(dtype).view(-1, 1, 1, 1).to(pixels.device, non_blocking=True)


def _to_uint8(values: Tensor) -> Tensor:
    return values.clamp_(0, 255).to(torch.uint8)


def _blend(pixels: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return factor · pixels + (1 − factor) · other. One rounding of the sum, as in torchvision."""
    own = pixels * _on_images(factor, pixels)
    return _to_uint8(torch.addcmul(own, other.float(), _on_images(1 - factor, pixels)))


def _transform(pixels: Tensor, *matrix: Tensor) -> Tensor:
    """Return the pixels at (a·x + b·y + c, d·x + e·y + f), six numbers (B,) for each image.

    x and y are the distances from the image's centre.
    """
    height, width = pixels.shape[2:]
    a, b, c, d, e, f = (_on_images(number, pixels)[:, 0] for number in matrix)
    x, y = (
        torch.linspace((1.0 - n) * 0.5, (n - 1.0) * 0.5, n, device=pixels.device)
        for n in (width, height)
    )
    # grid_sample counts from −1 to 1. Scaling the matrix, not the sum, rounds as torchvision does.
    half_width, half_height = 0.5 * width, 0.5 * height
    columns = x * (a / half_width) + y[:, None] * (b / half_width) + c / half_width
    rows = x * (d / half_height) + y[:, None] * (e / half_height) + f / half_height
    grid = torch.stack([columns, rows], dim=-1)
    sampled = functional.grid_sample(pixels.float(), grid, mode="nearest", align_corners=False)
    return sampled.round_().to(torch.uint8)
