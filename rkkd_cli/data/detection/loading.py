"""Image files of any size, decoded by the workers of torch's DataLoader."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rkkd_cli.data.streaming.decode import read_rgb, reject_decompression_bombs
from rkkd_cli.data.streaming.loader import ImageLoader
from rkkd_cli.errors import UserError

CHANNELS = 3


class SizedFile(NamedTuple):
    """An image file, and the height and width that its annotations give it."""

    path: str
    height: int
    width: int

    def read(self) -> NDArray[np.uint8]:
        """Return the pixels (H, W, 3). Raises UserError for damaged files and of other sizes."""
        pixels = read_rgb(Path(self.path), None)
        self.check(*pixels.shape[:2])
        return pixels

    def check(self, height: int, width: int) -> None:
        """Raise UserError if this is not the size of the annotations."""
        if (height, width) != (self.height, self.width):
            raise UserError(
                f"the image {self.path} has {width}×{height} pixels, but its annotations are for "
                f"{self.width}×{self.height}; correct them, or put the right image there"
            )


Files = Sequence[SizedFile]


def decode_files(files: Files) -> Tensor:
    """Return the pixels of all images (H, W, 3) one after another, in one uint8 tensor."""
    pixels = torch.empty(sum(pixel_counts(files)), dtype=torch.uint8)
    with reject_decompression_bombs():
        for file, part in zip(files, torch.split(pixels, pixel_counts(files)), strict=True):
            part.numpy()[:] = file.read().ravel()
    return pixels


def pixel_counts(files: Files) -> list[int]:
    """Return how many numbers each image has."""
    return [file.height * file.width * CHANNELS for file in files]


def read_files(
    loader: ImageLoader, batches: Iterable[Files], count: int, pin_memory: bool
) -> Iterator[list[Tensor]]:
    """Yield the images (H, W, 3) of ``count`` batches, uint8; ``loader`` does :func:`decode_files`.

    Raises ImageError for an image that cannot be decoded, after the batches before it.
    """
    tasks, batches = itertools.tee(batches)  # which keeps those that are under way
    for files, pixels in zip(batches, loader.read(tasks, count, pin_memory), strict=True):
        parts = torch.split(pixels, pixel_counts(files))
        yield [
            part.view(file.height, file.width, CHANNELS)
            for file, part in zip(files, parts, strict=True)
        ]
