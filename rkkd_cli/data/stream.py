"""A stream: one seed's batches, gathered, cropped, flipped and normalised on the device.

Shapes: B batch, C channels, P padding; images (B, C, H, W) float32.
"""

from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.data.images import Dataset, LabelledImages
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.data.strong import StrongView

# The share of a GPU's free memory that a split may take to stay there.
RESIDENT_SHARE = 0.5


class Part(NamedTuple):
    """A rank's contiguous part of every batch: number ``number`` (from 0) of ``of``."""

    number: int = 0
    of: int = 1

    def within(self, start: int, stop: int) -> slice:
        """Return the part of start … stop. Sizes differ by 1 at most; the first is the largest."""
        first, last = (-(-(stop - start) * n // self.of) for n in (self.number, self.number + 1))
        return slice(start + first, start + last)


ALL = Part()


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


class Windows(NamedTuple):
    """The rows and the columns, (N, H) and (N, W), that are cut out of each padded image."""

    rows: Tensor
    columns: Tensor


class DeviceImages:
    """A split as uint8 tensors where they fit, and the normalisation, on the device."""

    def __init__(
        self, split: LabelledImages, dataset: Dataset, device: torch.device, padding: int = 0
    ) -> None:
        images = torch.from_numpy(split.images)
        home = device if _fits(images.nbytes, device) else torch.device("cpu")
        self.device = device
        self.images = torch.nn.functional.pad(images, (padding,) * 4).to(home)
        self.labels = torch.from_numpy(split.labels).to(device)
        self.size = (split.images.shape[2], split.images.shape[3])
        mean, std = torch.tensor(dataset.mean), torch.tensor(dataset.std)
        self.scale = (1 / (255 * std)).view(1, -1, 1, 1).to(device)
        self.shift = (-mean / std).view(1, -1, 1, 1).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return (pixels / 255 − mean) / std as channels-last float32 on the device."""
        images = pixels.to(self.device).to(torch.float32, memory_format=torch.channels_last)
        return images.mul_(self.scale).add_(self.shift)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield all images once, as they are."""
        for start in range(0, len(self), batch_size):
            index = torch.arange(start, min(start + batch_size, len(self)), device=self.device)
            pixels = self.images[start : start + batch_size]
            yield Batch(self.normalise(pixels), self.labels[start : start + batch_size], index)


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
        self.data = DeviceImages(dataset.train, dataset, device, dataset.crop_padding)
        self.padding, self.flip = dataset.crop_padding, dataset.flip
        self.batch_size, self.seed = batch_size, seed
        self.strong = StrongView(dataset.in_channels) if strong else None

    def __len__(self) -> int:
        """Return the number of batches per epoch; the last one may be smaller."""
        return -(-len(self.data) // self.batch_size)

    def epoch(self, number: int, skip: int = 0, part: Part = ALL) -> Iterator[Batch]:
        """Yield the batches of epoch ``number`` (from 1): every image once, in random order.

        The first ``skip`` batches are left out, and of each all but ``part``, which changes
        nothing about the others.

        Crops are uniform over the padded image, flips have probability 1/2. All draws of the
        epoch are made at once, on the CPU, so that every device sees the same sequence. The
        strong view has crops, flips and draws of its own: without it the rest stays the same.
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "stream", number))
        count, home = len(self.data), self.data.images.device
        order = torch.randperm(count, generator=generator).to(home)
        windows = self._windows(generator)
        strong = self._strong_views(number, order, skip, part) if self.strong else repeat(None)
        index = order.to(self.data.device)
        labels = self.data.labels[index]
        for batch, own, stands_in in self._parts(skip, part):
            pixels = _gather(self.data.images, order[own], windows, own)
            images, whole = self.data.normalise(pixels), batch.stop - batch.start
            yield Batch(images, labels[own], index[own], next(strong), whole, stands_in)

    def _parts(self, skip: int, part: Part) -> Iterator[tuple[slice, slice, bool]]:
        """Yield where each batch stands in the epoch's order, where what is taken of it, and
        whether that is an image that does not count.
        """
        for start in range(skip * self.batch_size, len(self.data), self.batch_size):
            batch = slice(start, min(start + self.batch_size, len(self.data)))
            own = part.within(batch.start, batch.stop)
            is_empty = own.start == own.stop
            yield batch, slice(start, start + 1) if is_empty else own, is_empty

    def _strong_views(self, number: int, order: Tensor, skip: int, part: Part) -> Iterator[Tensor]:
        """Yield the strong view of each batch of an epoch after the first ``skip`` ones."""
        assert self.strong is not None
        seed = derive_seed(self.seed, "strong", number)
        windows = self._windows(torch.Generator().manual_seed(seed))
        for batch, own, _ in self._parts(skip, part):
            pixels = _gather(self.data.images, order[own], windows, own)
            drawn = derive_seed(seed, "batch", batch.start)
            places = slice(own.start - batch.start, own.stop - batch.start)
            yield self.data.normalise(self.strong(pixels, drawn, places, batch.stop - batch.start))

    def _windows(self, generator: torch.Generator) -> Windows:
        """Draw a crop and a flip for every image."""
        count, home = len(self.data), self.data.images.device
        corners = torch.randint(2 * self.padding + 1, (count, 2), generator=generator)
        flipped = torch.rand(count, generator=generator) < (0.5 if self.flip else 0.0)
        height, width = self.data.size
        rows = corners[:, :1] + torch.arange(height)
        columns = corners[:, 1:] + torch.arange(width)
        columns = torch.where(flipped[:, None], columns.flip(1), columns)
        return Windows(rows.to(home), columns.to(home))


def _gather(images: Tensor, index: Tensor, windows: Windows, part: slice) -> Tensor:
    """Return images[b, c, rows[b, h], columns[b, w]] for each b of ``index``: crop and flip."""
    rows, columns = windows.rows[part], windows.columns[part]
    channels = torch.arange(images.shape[1], device=images.device)
    return images[
        index[:, None, None, None],
        channels[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def _fits(nbytes: int, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return nbytes < RESIDENT_SHARE * free
