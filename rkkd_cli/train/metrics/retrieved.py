"""What arms find for some test images, with the pixels, so that it can be drawn anywhere."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from rkkd_cli.data.stream import DeviceImages
from rkkd_cli.train.events import Retrieved
from rkkd_cli.train.metrics.meters import SplitMeters

MAX_SIDE = 96  # pixels of a larger image's longer side


def retrieved(
    stream: str, arm: str, seed: int, epoch: int, images: DeviceImages, meters: SplitMeters
) -> Iterator[Retrieved]:
    """Yield what the arm finds in a split for the first image of some classes.

    Nothing, if its task searches for nothing. Reads the ``images``, and waits for the device.
    """
    neighbours = meters.whole.neighbours()
    if neighbours is not None:
        indices, labels = neighbours
        (pixels,) = images.pixels.in_order([indices.flatten()])
        shown = shrunk(pixels.cpu())
        names = np.array(images.class_names)[labels.numpy()]
        queries = shown.view(*indices.shape, *shown.shape[1:])
        yield Retrieved(stream, arm, seed, epoch, queries.numpy(), names)


def shrunk(pixels: Tensor) -> Tensor:
    """Return images (N, C, H, W) uint8 with at most so many pixels a side."""
    height, width = pixels.shape[2:]
    scale = MAX_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    size = [max(1, round(side * scale)) for side in (height, width)]
    smaller = interpolate(pixels.float(), size, mode="bilinear", antialias=True)
    return smaller.round().clamp(0, 255).to(torch.uint8)
