"""Where the pixels of a split come from, batch by batch: out of memory, or off the disk.

Shapes: B batch, C channels, P padding; pixels (B, C, H, W) uint8.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from rkkd_cli.data.images import LabelledImages
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.data.streaming.crops import Cut
from rkkd_cli.data.streaming.split import ListedImages
from rkkd_cli.data.streaming.worker import Order

# The share of a GPU's free memory that a split may take to stay there.
RESIDENT_SHARE = 0.5

Size = tuple[int, int]


class Pixels(Protocol):
    """The pixels of a split. What is drawn comes from the generator alone."""

    def in_order(self, parts: Iterable[slice]) -> Iterator[Tensor]:
        """Yield the images of each part of the split, as they are evaluated."""

    def augmented(
        self, order: Tensor, generator: torch.Generator, parts: Iterable[slice]
    ) -> Iterator[Tensor]:
        """Yield the images of each part of ``order``, cropped and flipped.

        The draws are those of whole epochs: which parts are asked for changes none of them.
        """


class Windows:
    """A crop and a flip for every image of an epoch: uniform over the padded image, one in two."""

    def __init__(
        self, count: int, size: Size, padding: int, flip: bool, generator: torch.Generator
    ) -> None:
        self.size = size
        self.corners = torch.randint(2 * padding + 1, (count, 2), generator=generator)
        self.flipped = torch.rand(count, generator=generator) < (0.5 if flip else 0.0)

    def to(self, device: torch.device) -> "Windows":
        """Move what was drawn to the device."""
        self.corners, self.flipped = self.corners.to(device), self.flipped.to(device)
        return self

    def cut(self, padded: Tensor, index: Tensor, part: slice) -> Tensor:
        """Return padded[b, c, rows[b, h], columns[b, w]] for each b of ``index``.

        Rows and columns are those of the windows of ``part``, mirrored where they are flipped.
        """
        height, width = self.size
        home, corners = padded.device, self.corners[part]
        rows = corners[:, :1] + torch.arange(height, device=home)
        columns = corners[:, 1:] + torch.arange(width, device=home)
        columns = torch.where(self.flipped[part][:, None], columns.flip(1), columns)
        channels = torch.arange(padded.shape[1], device=home)
        return padded[
            index[:, None, None, None],
            channels[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]


class ResidentPixels:
    """Images in memory, the GPU's where they fit, padded for their crops."""

    def __init__(
        self, split: LabelledImages, device: torch.device, padding: int, flip: bool
    ) -> None:
        images = torch.from_numpy(split.images)
        home = device if _fits(images.nbytes, device) else torch.device("cpu")
        self.images = torch.nn.functional.pad(images, (padding,) * 4).to(home)
        self.size, self.padding, self.flip = split.shape[1:], padding, flip

    def in_order(self, parts: Iterable[slice]) -> Iterator[Tensor]:
        """Yield the images of each part; the padding is none where this is called."""
        return (self.images[part] for part in parts)

    def augmented(
        self, order: Tensor, generator: torch.Generator, parts: Iterable[slice]
    ) -> Iterator[Tensor]:
        """Yield the cropped and flipped images of each part of ``order``."""
        home = self.images.device
        windows = Windows(len(order), self.size, self.padding, self.flip, generator).to(home)
        order = order.to(home)
        for part in parts:
            yield windows.cut(self.images, order[part], part)


class StreamedPixels:
    """Images on the disk, decoded by processes a few batches ahead."""

    def __init__(self, split: ListedImages, device: torch.device, padding: int, flip: bool) -> None:
        self.split, self.device, self.padding, self.flip = split, device, padding, flip

    def in_order(self, parts: Iterable[slice]) -> Iterator[Tensor]:
        """Yield the middle of the images of each part."""
        cut = Cut(self.split.size, "held_out" if self.split.crop == "resized" else "centre")
        numbers = range(len(self.split))
        return self._decoded(
            [Order(self.split.path(number), cut, 0) for number in numbers[part]] for part in parts
        )

    def augmented(
        self, order: Tensor, generator: torch.Generator, parts: Iterable[slice]
    ) -> Iterator[Tensor]:
        """Yield the cropped and flipped images of each part of ``order``."""
        if self.split.crop == "resized":
            return self._resized(order, generator, parts)
        return self._padded(order, generator, parts)

    def _resized(
        self, order: Tensor, generator: torch.Generator, parts: Iterable[slice]
    ) -> Iterator[Tensor]:
        """Crops of random area and shape: each image has a seed of its own."""
        seed = int(torch.randint(2**62, (1,), generator=generator))
        cut, places = Cut(self.split.size, "random", self.flip), range(len(order))
        return self._decoded(
            [
                Order(self.split.path(number), cut, derive_seed(seed, place))
                for place, number in zip(places[part], order[part].tolist(), strict=True)
            ]
            for part in parts
        )

    def _padded(
        self, order: Tensor, generator: torch.Generator, parts: Iterable[slice]
    ) -> Iterator[Tensor]:
        """Windows of the padded middle, as if the images were in memory."""
        windows = Windows(len(order), self.split.shape[1:], self.padding, self.flip, generator)
        windows = windows.to(self.device)
        cut, asked = Cut(self.split.size, "centre"), list(parts)
        decoded = self._decoded(
            [Order(self.split.path(number), cut, 0) for number in order[part].tolist()]
            for part in asked
        )
        for part, pixels in zip(asked, decoded, strict=True):
            padded = torch.nn.functional.pad(pixels, (self.padding,) * 4)
            yield windows.cut(padded, torch.arange(len(pixels), device=self.device), part)

    def _decoded(self, batches: Iterable[list[Order]]) -> Iterator[Tensor]:
        for pixels in self.split.decoders.batches(batches, self._allocate):
            yield pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)

    def _allocate(self, count: int, size: int) -> Tensor:
        """Return room for a batch, page-locked where a GPU will fetch it."""
        pinned = self.device.type == "cuda"
        return torch.empty((count, size, size, 3), dtype=torch.uint8, pin_memory=pinned)


def pixels_of(
    split: LabelledImages | ListedImages, device: torch.device, padding: int, flip: bool
) -> Pixels:
    """Return where the split's pixels come from."""
    if isinstance(split, ListedImages):
        return StreamedPixels(split, device, padding, flip)
    return ResidentPixels(split, device, padding, flip)


def _fits(nbytes: int, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return nbytes < RESIDENT_SHARE * free
