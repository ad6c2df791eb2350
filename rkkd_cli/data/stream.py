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


class Batch(NamedTuple):
    """Normalised images, their labels and places in the split, (B,).

    ``strong`` is a second view of the images, strongly augmented, where the stream has one.
    """

    images: Tensor
    labels: Tensor
    places: Tensor
    strong: Tensor | None = None


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

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch ``number`` (from 1): every image once, in random order.

        The first ``skip`` batches are left out, which changes nothing about the others.

        Crops are uniform over the padded image, flips have probability 1/2. All draws of the
        epoch are made at once, on the CPU, so that every device sees the same sequence. The
        strong view has crops, flips and draws of its own: without it the rest stays the same.
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "stream", number))
        count, home = len(self.data), self.data.images.device
        order = torch.randperm(count, generator=generator).to(home)
        windows = self._windows(generator)
        strong = self._strong_views(number, order, skip) if self.strong else repeat(None)
        index = order.to(self.data.device)
        labels = self.data.labels[index]
        for part in self._parts(skip):
            images = self.data.normalise(_gather(self.data.images, order[part], windows, part))
            yield Batch(images, labels[part], index[part], next(strong))

    def _parts(self, skip: int) -> Iterator[slice]:
        for start in range(skip * self.batch_size, len(self.data), self.batch_size):
            yield slice(start, start + self.batch_size)

    def _strong_views(self, number: int, order: Tensor, skip: int) -> Iterator[Tensor]:
        """Yield the strong view of each batch of an epoch after the first ``skip`` ones."""
        assert self.strong is not None
        seed = derive_seed(self.seed, "strong", number)
        windows = self._windows(torch.Generator().manual_seed(seed))
        for part in self._parts(skip):
            pixels = _gather(self.data.images, order[part], windows, part)
            yield self.data.normalise(self.strong(pixels, derive_seed(seed, "batch", part.start)))

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
