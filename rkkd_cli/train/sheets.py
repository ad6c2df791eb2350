"""What arms find in some test images after their last epoch, with the pixels, to be drawn."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from rkkd_cli.data.stream import DeviceImages
from rkkd_cli.tasks.average_precision import AveragePrecision
from rkkd_cli.tasks.detection import FoundInSplit
from rkkd_cli.train.events import Detected, FoundInScene, Retrieved
from rkkd_cli.train.metrics.evaluate import HeldOutSplit
from rkkd_cli.train.metrics.meters import SplitMeters
from rkkd_cli.train.regions import TaughtRegions

MAX_SIDE = 96  # pixels of a larger image's longer side, where images are searched for


def sheets(
    stream: str, arm: str, seed: int, epoch: int, split: HeldOutSplit, meters: SplitMeters
) -> Iterator[Retrieved | Detected]:
    """Yield what the arm finds in a split: images nearest to some, or boxes in some.

    Nothing of a classifier. Reads the images, and waits for the device.
    """
    if isinstance(split, TaughtRegions):
        scenes = tuple(_found_in_scenes(split, meters))
        yield Detected(stream, arm, seed, epoch, split.images.class_names, scenes)
        return
    neighbours, images = meters.whole.neighbours(), split.images
    if neighbours is not None:
        assert isinstance(images, DeviceImages)
        indices, labels = neighbours
        (pixels,) = images.pixels.in_order([indices.flatten()])
        shown = shrunk(pixels.cpu())
        names = np.array(images.class_names)[labels.numpy()]
        queries = shown.view(*indices.shape, *shown.shape[1:])
        yield Retrieved(stream, arm, seed, epoch, queries.numpy(), names)


def _found_in_scenes(split: TaughtRegions, meters: SplitMeters) -> Iterator[FoundInScene]:
    """Yield what teacher and student find in the first images of some classes."""
    assert isinstance(meters.whole, FoundInSplit)
    found, by_teacher = meters.whole.found, AveragePrecision()
    numbers = found.examples()
    for image in split.found_by_teacher(numbers):
        by_teacher.add(image.detections, image.objects, image.number)
    for number in numbers:
        pixels = split.images.split.read(number)
        yield FoundInScene(number, pixels, by_teacher.images[number], found.images[number])


def shrunk(pixels: Tensor) -> Tensor:
    """Return images (N, C, H, W) uint8 with at most so many pixels a side."""
    height, width = pixels.shape[2:]
    scale = MAX_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    size = [max(1, round(side * scale)) for side in (height, width)]
    smaller = interpolate(pixels.float(), size, mode="bilinear", antialias=True)
    return smaller.round().clamp(0, 255).to(torch.uint8)
