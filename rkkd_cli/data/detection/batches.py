"""Batches of images with objects, on the device.

Shapes: B batch, N objects of an image; images (B, 3, H, W) float32.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from rkkd_cli.data.detection.dataset import DIVISOR, DetectionDataset
from rkkd_cli.data.detection.objects import Objects
from rkkd_cli.data.detection.splits import DetectionSplit
from rkkd_cli.data.stream import batch_slices

Size = tuple[int, int]  # height and width


class DetectionBatch(NamedTuple):
    """Normalised images, padded with 0 at the right and bottom, and their objects.

    ``sizes`` are the height and width of each resized image, without its padding, ``originals``
    those of the image as it is on the disk. ``objects`` are in pixels of the resized images, in
    training without crowds. ``indices`` (B,) are those of the split. ``global_size`` and
    ``is_padding`` are as in :class:`rkkd_cli.data.stream.Batch`.
    """

    images: Tensor
    sizes: tuple[Size, ...]
    objects: tuple[Objects, ...]
    originals: tuple[Size, ...]
    indices: Tensor
    global_size: int | None = None
    is_padding: bool = False

    @property
    def strong(self) -> None:
        """There is no second view."""
        return None

    @property
    def total(self) -> int:
        """The number of images of the global batch."""
        return len(self.sizes) if self.global_size is None else self.global_size

    @property
    def weight(self) -> float:
        """The fraction of the global batch's images in this batch."""
        return 0.0 if self.is_padding else len(self.sizes) / self.total


class View(NamedTuple):
    """How an image is shown: its shorter side in pixels (None: as it is), and whether mirrored."""

    side: int | None
    is_flipped: bool = False

    def size(self, height: int, width: int, max_size: int) -> Size:
        """Return height and width of an image as it is shown, as torchvision's detectors do."""
        if self.side is None:
            return height, width
        scale = min(self.side / min(height, width), max_size / max(height, width))
        return math.floor(height * scale), math.floor(width * scale)


class DetectionImages:
    """A split, whose images come batch by batch to the device.

    They are normalised, resized and padded by torchvision's own transform of detectors.
    """

    def __init__(
        self, split: DetectionSplit, dataset: DetectionDataset, device: torch.device
    ) -> None:
        self.split, self.device = split, device
        self.class_names, self.max_size = dataset.classes, dataset.max_size
        self.test_view = View(dataset.test_size)
        sides = dataset.min_size or (None,)
        # Without its training mode, which draws from the global generator.
        self.transforms = {
            side: GeneralizedRCNNTransform(
                side or 0, dataset.max_size, list(dataset.mean), list(dataset.std), DIVISOR
            ).eval()
            for side in sides
        }

    def __len__(self) -> int:
        return len(self.split)

    def in_order(self, batch_size: int, last_batch: str = "keep") -> Iterator[DetectionBatch]:
        """Yield all images once, in the order of the split, with all of their objects."""
        slices = batch_slices(len(self), batch_size, last_batch)
        batches = [[*range(part.start, part.stop)] for part in slices]
        for indices, pixels in zip(batches, self.read(batches), strict=True):
            objects = [self.split.objects(index) for index in indices]
            views = [self.test_view] * len(indices)
            yield self.batch(indices, pixels, objects, views, self.padded_size(indices, views))

    def read(self, batches: Sequence[Sequence[int]]) -> Iterator[list[Tensor]]:
        """Yield the pixels of the images of each batch, (H, W, 3) uint8, in memory."""
        return self.split.batches(batches, pin_memory=self.device.type == "cuda")

    def padded_size(self, indices: Sequence[int], views: Sequence[View]) -> Size:
        """Return the height and width to which a batch of these images is padded."""
        sizes = self.split.sizes[np.array(indices)].tolist()
        shown = [
            view.size(height, width, self.max_size)
            for (height, width), view in zip(sizes, views, strict=True)
        ]
        height, width = (-(-max(sides) // DIVISOR) * DIVISOR for sides in zip(*shown, strict=True))
        return height, width

    def batch(
        self,
        indices: Sequence[int],
        pixels: Sequence[Tensor],
        objects: Sequence[Objects],
        views: Sequence[View],
        padded_size: Size,
    ) -> DetectionBatch:
        """Return the batch of these images as the views show them."""
        shape, layout = (len(indices), 3, *padded_size), torch.channels_last
        images = torch.empty(shape, device=self.device, memory_format=layout).zero_()
        sizes, moved = [], []
        for one, shown, found, view in zip(images, pixels, objects, views, strict=True):
            image = self._show(shown, view)
            height, width = image.shape[1:]
            one[:, :height, :width] = image
            original = (shown.shape[0], shown.shape[1])
            here = on_view(found, original, (height, width), view.is_flipped)
            sizes.append((height, width))
            moved.append(Objects(*(t.to(self.device, non_blocking=True) for t in here)))
        originals = tuple((shown.shape[0], shown.shape[1]) for shown in pixels)
        index = torch.tensor(indices, device=self.device)
        return DetectionBatch(images, tuple(sizes), tuple(moved), originals, index)

    def _show(self, pixels: Tensor, view: View) -> Tensor:
        """Return an image (3, h, w), normalised and resized, of its pixels (H, W, 3)."""
        transform = self.transforms[view.side]
        image = pixels.to(self.device, non_blocking=True).permute(2, 0, 1).float() / 255
        image = transform.normalize(image.flip(2) if view.is_flipped else image)
        shown: Tensor = image if view.side is None else transform.resize(image)[0]
        return shown


def on_view(objects: Objects, original: Size, size: Size, is_flipped: bool) -> Objects:
    """Return the objects of an image after it was mirrored, if it was, and resized to ``size``."""
    boxes = objects.boxes
    if is_flipped:
        x0, y0, x1, y1 = boxes.unbind(1)
        boxes = torch.stack((original[1] - x1, y0, original[1] - x0, y1), dim=1)
    return objects._replace(boxes=resize_boxes(boxes, list(original), list(size)))


def without_crowds(objects: Objects) -> Objects:
    """Return the objects that are trained on."""
    return Objects(*(values[~objects.crowd] for values in objects))
