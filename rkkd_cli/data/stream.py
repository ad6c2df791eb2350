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
from rkkd_cli.data.strong_augment import StrongView


class Part(NamedTuple):
    """A rank's contiguous part of every batch: number ``number`` (from 0) of ``of``."""

    number: int = 0
    of: int = 1

    def within(self, start: int, stop: int) -> slice:
        """Return the part of start … stop. Sizes differ by 1 at most; the first is the largest."""
        first, last = (-(-(stop - start) * n // self.of) for n in (self.number, self.number + 1))
        return slice(start + first, start + last)


ALL = Part()


class Taken(NamedTuple):
    """Where a batch stands in an epoch's order, and what of it is taken.

    ``stands_in`` tells that ``own`` is an image that does not count, since nothing is left.
    """

    batch: slice
    own: slice
    stands_in: bool

    @property
    def whole(self) -> int:
        """The number of images of the whole batch."""
        return int(self.batch.stop - self.batch.start)

    @property
    def places(self) -> slice:
        """Where in the batch the images stand that are taken."""
        return slice(self.own.start - self.batch.start, self.own.stop - self.batch.start)


class Batch(NamedTuple):
    """Normalised images, their labels and places in the split, (B,).

    ``strong`` is a second view of the images, strongly augmented, where the stream has one.
    Where the images are a rank's part of a batch, ``whole`` is the number of all its images. A rank
    that has none has one that does not count (``stands_in``): a step needs something to compute.
    """

    images: Tensor
    labels: Tensor
    places: Tensor
    strong: Tensor | None = None
    whole: int | None = None
    stands_in: bool = False

    @property
    def total(self) -> int:
        """The number of images of the whole batch."""
        return len(self.labels) if self.whole is None else self.whole

    @property
    def share(self) -> float:
        """The share of the whole batch's images that these are."""
        return 0.0 if self.stands_in else len(self.labels) / self.total


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
            yield slice(start, min(start + batch_size, len(self)))

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

    def epoch(self, number: int, skip: int = 0, part: Part = ALL) -> Iterator[Batch]:
        """Yield the batches of epoch ``number`` (from 1): every image once, in random order.

        The first ``skip`` batches are left out, and of each all but ``part``, which changes
        nothing about the others.

        All draws of the epoch are made on the CPU, so that every device sees the same sequence. The
        strong view has crops, flips and draws of its own: without it the rest stays the same.
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "stream", number))
        order = torch.randperm(len(self.data), generator=generator)
        taken = list(self._taken(skip, part))
        augmented = self.data.pixels.augmented(order, generator, [one.own for one in taken])
        strong = self._strong_views(number, order, taken) if self.strong else repeat(None)
        index = order.to(self.data.device)
        labels = self.data.labels[index]
        for one, pixels in zip(taken, augmented, strict=True):
            images, own = self.data.normalise(pixels), one.own
            yield Batch(images, labels[own], index[own], next(strong), one.whole, one.stands_in)

    def _taken(self, skip: int, part: Part) -> Iterator[Taken]:
        for batch in self.data.parts(self.batch_size, skip):
            own = part.within(batch.start, batch.stop)
            is_empty = own.start == own.stop
            yield Taken(batch, slice(batch.start, batch.start + 1) if is_empty else own, is_empty)

    def _strong_views(self, number: int, order: Tensor, taken: Sequence[Taken]) -> Iterator[Tensor]:
        """Yield the strong view of what is taken of each batch of an epoch."""
        assert self.strong is not None
        seed = derive_seed(self.seed, "strong", number)
        generator = torch.Generator().manual_seed(seed)
        augmented = self.data.pixels.augmented(order, generator, [one.own for one in taken])
        for one, pixels in zip(taken, augmented, strict=True):
            drawn = derive_seed(seed, "batch", one.batch.start)
            yield self.data.normalise(self.strong(pixels, drawn, one.places, one.whole))
