"""A stream: one seed's batches, gathered, cropped, flipped and normalised on the device.

Shapes: B batch, C channels, P padding; images (B, C, H, W) float32.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.data.images import Dataset, LabelledImages
from rkkd_cli.data.seeding import derive_seed

# The share of a GPU's free memory that a split may take to stay there.
RESIDENT_SHARE = 0.5


class Batch(NamedTuple):
    """Normalised images and their labels."""

    images: Tensor
    labels: Tensor


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
            stop = start + batch_size
            yield Batch(self.normalise(self.images[start:stop]), self.labels[start:stop])


class Stream:
    """One seed's batches: epoch by epoch a fixed function of the seed, whoever reads it."""

    def __init__(self, dataset: Dataset, device: torch.device, batch_size: int, seed: int) -> None:
        self.data = DeviceImages(dataset.train, dataset, device, dataset.crop_padding)
        self.padding, self.flip = dataset.crop_padding, dataset.flip
        self.batch_size, self.seed = batch_size, seed

    def __len__(self) -> int:
        """Return the number of batches per epoch; the last one may be smaller."""
        return -(-len(self.data) // self.batch_size)

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch ``number`` (from 1): every image once, in random order.

        The first ``skip`` batches are left out, which changes nothing about the others.

        Crops are uniform over the padded image, flips have probability 1/2. All draws of the
        epoch are made at once, on the CPU, so that every device sees the same sequence.
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "stream", number))
        count = len(self.data)
        order = torch.randperm(count, generator=generator)
        corners = torch.randint(2 * self.padding + 1, (count, 2), generator=generator)
        flipped = torch.rand(count, generator=generator) < (0.5 if self.flip else 0.0)
        home = self.data.images.device
        rows, columns = self._windows(corners, flipped)
        order, rows, columns = order.to(home), rows.to(home), columns.to(home)
        labels = self.data.labels[order.to(self.data.device)]
        for start in range(skip * self.batch_size, count, self.batch_size):
            part = slice(start, start + self.batch_size)
            pixels = _gather(self.data.images, order[part], rows[part], columns[part])
            yield Batch(self.data.normalise(pixels), labels[part])

    def _windows(self, corners: Tensor, flipped: Tensor) -> tuple[Tensor, Tensor]:
        height, width = self.data.size
        rows = corners[:, :1] + torch.arange(height)
        columns = corners[:, 1:] + torch.arange(width)
        return rows, torch.where(flipped[:, None], columns.flip(1), columns)


def _gather(images: Tensor, index: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images[b, c, rows[b, h], columns[b, w]] for each b of ``index``: crop and flip."""
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
