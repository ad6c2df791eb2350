"""A stream: one seed's batches, cropped, flipped and normalised on the device.

Shapes: B batch, C channels; images (B, C, H, W) float32.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.data.images import Dataset, Split
from rkkd_cli.data.pixels import pixels_of
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.data.strong import StrongView


class Batch(NamedTuple):
    """Normalised images, their labels and places in the split, (B,).

    ``strong`` is a second view of the images, strongly augmented, where the stream has one.
    """

    images: Tensor
    labels: Tensor
    places: Tensor
    strong: Tensor | None = None


class DeviceImages:
    """A split on its way to the device: its pixels, its labels there, and the normalisation."""

    def __init__(
        self,
        split: Split,
        dataset: Dataset,
        device: torch.device,
        padding: int = 0,
        flip: bool = False,
    ) -> None:
        self.device = device
        self.pixels = pixels_of(split, device, padding, flip)
        self.labels = torch.from_numpy(split.labels).to(device)
        mean, std = torch.tensor(dataset.mean), torch.tensor(dataset.std)
        self.scale = (1 / (255 * std)).view(1, -1, 1, 1).to(device)
        self.shift = (-mean / std).view(1, -1, 1, 1).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return (pixels / 255 − mean) / std as channels-last float32 on the device."""
        images = pixels.to(self.device).to(torch.float32, memory_format=torch.channels_last)
        return images.mul_(self.scale).add_(self.shift)

    def parts(self, batch_size: int, skip: int = 0) -> Iterator[slice]:
        """Yield where each batch stands in an order of all images, after the first ``skip``."""
        for start in range(skip * batch_size, len(self), batch_size):
            yield slice(start, start + batch_size)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield all images once, as they are."""
        places = torch.arange(len(self), device=self.device)
        parts = self.parts(batch_size)
        for part, pixels in zip(parts, self.pixels.in_order(self.parts(batch_size)), strict=True):
            yield Batch(self.normalise(pixels), self.labels[part], places[part])


class Stream:
    """One seed's batches: epoch by epoch a fixed function of the seed, whoever reads it."""

    def __init__(
        self,
        dataset: Dataset,
        device: torch.device,
        batch_size: int,
        seed: int,
        strong: bool = False,
    ) -> None:
        crops = dataset.crop_padding, dataset.flip
        self.data = DeviceImages(dataset.train, dataset, device, *crops)
        self.batch_size, self.seed = batch_size, seed
        self.strong = StrongView(dataset.in_channels) if strong else None

    def __len__(self) -> int:
        """Return the number of batches per epoch; the last one may be smaller."""
        return -(-len(self.data) // self.batch_size)

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch ``number`` (from 1): every image once, in random order.

        The first ``skip`` batches are left out, which changes nothing about the others.

        All draws of the epoch are made on the CPU, so that every device sees the same sequence. The
        strong view has crops, flips and draws of its own: without it the rest stays the same.
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "stream", number))
        order = torch.randperm(len(self.data), generator=generator)
        parts = list(self.data.parts(self.batch_size, skip))
        augmented = self.data.pixels.augmented(order, generator, parts)
        strong = self._strong_views(number, order, parts) if self.strong else repeat(None)
        index = order.to(self.data.device)
        labels = self.data.labels[index]
        for part, pixels in zip(parts, augmented, strict=True):
            yield Batch(self.data.normalise(pixels), labels[part], index[part], next(strong))

    def _strong_views(self, number: int, order: Tensor, parts: Sequence[slice]) -> Iterator[Tensor]:
        """Yield the strong view of each of the parts of an epoch."""
        assert self.strong is not None
        seed = derive_seed(self.seed, "strong", number)
        generator = torch.Generator().manual_seed(seed)
        augmented = self.data.pixels.augmented(order, generator, parts)
        for part, pixels in zip(parts, augmented, strict=True):
            yield self.data.normalise(self.strong(pixels, derive_seed(seed, "batch", part.start)))
