"""Image files of any size, decoded by the workers of torch's DataLoader."""

import itertools
import multiprocessing as mp
import warnings
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rkkd_cli.data.streaming.decode import read_rgb, reject_decompression_bombs
from rkkd_cli.data.streaming.loader import (
    PREFETCH_FACTOR,
    PRELOADED,
    START_METHOD,
    ImageLoader,
    _start_worker,
    _terminate,
)
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


class _Batches(Dataset[Tensor | str]):
    """All batches that there are: an index is a batch's files."""

    def __getitem__(self, files: Files) -> Tensor | str:
        try:
            return decode_files(files)
        except UserError as error:
            return str(error)


class FileLoader(ImageLoader):
    """Workers that decode whole images; see :class:`ImageLoader`."""

    def __reduce__(self) -> tuple[type["FileLoader"], tuple[int | None]]:
        """A copy starts workers of its own."""
        return FileLoader, (self.requested,)

    def images(
        self, batches: Iterable[Files], count: int, pin_memory: bool
    ) -> Iterator[list[Tensor]]:
        """Yield the images (H, W, 3) of ``count`` batches, uint8.

        Raises ImageError for an image that cannot be decoded, after the batches before it.
        """
        decoded_files, batches = itertools.tee(batches)  # which keeps those that are under way
        decoded = self.read(cast(Any, decoded_files), count, pin_memory)
        for files, pixels in zip(batches, decoded, strict=True):
            parts = torch.split(pixels, pixel_counts(files))
            yield [
                part.view(file.height, file.width, CHANNELS)
                for file, part in zip(files, parts, strict=True)
            ]

    def _decoded(self, pin_memory: bool) -> Iterator[Tensor | str]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of more workers than cores, which somebody asked for
            if self.loader is None:
                self.loader = self._new_loader(pin_memory)
                others = mp.active_children()
                decoded = iter(self.loader)
                started = [child for child in mp.active_children() if child not in others]
                self.end_workers = weakref.finalize(self, _terminate, started)
            else:
                decoded = iter(self.loader)
        yield from decoded

    def _new_loader(self, pin_memory: bool) -> DataLoader[Tensor | str]:
        options: dict[str, Any] = {}
        if self.workers:
            context = mp.get_context(START_METHOD)
            context.set_forkserver_preload(PRELOADED)
            options = {
                "num_workers": self.workers, "prefetch_factor": PREFETCH_FACTOR,
                "persistent_workers": True, "worker_init_fn": _start_worker,
                "multiprocessing_context": context,
            }  # fmt: skip
        return DataLoader(
            _Batches(), batch_size=None, sampler=self.tasks, pin_memory=pin_memory,
            generator=torch.Generator(), **options,  # else the global generator would be moved
        )  # fmt: skip
