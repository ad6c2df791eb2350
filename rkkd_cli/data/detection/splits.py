"""Splits of images with objects: what batches need of them, and those of image files.

Shapes: N images; sizes (N, 2): height and width.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rkkd_cli.data.detection.annotations import Annotations
from rkkd_cli.data.detection.loading import SizedFile, read_files
from rkkd_cli.data.detection.objects import Objects
from rkkd_cli.data.headers import MAX_HEADERS
from rkkd_cli.data.streaming.decode import file_digest, read_size
from rkkd_cli.data.streaming.loader import ImageLoader
from rkkd_cli.data.streaming.split import SAMPLED_FILES, file_size
from rkkd_cli.data.subsets import Indices
from rkkd_cli.errors import UserError


class DetectionSplit(Protocol):
    """Images with objects, in memory or on disk."""

    @property
    def sizes(self) -> Indices:
        """Height and width of each image, (N, 2)."""

    @property
    def annotations(self) -> Annotations:
        """The objects of all images."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of images and objects."""

    def __len__(self) -> int:
        """The number of images."""

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return the pixels of one image, (H, W, 3)."""

    def objects(self, index: int) -> Objects:
        """Return the objects of one image, in its pixels."""

    def take(self, indices: Indices) -> Self:
        """Return the images at ``indices``, in that order."""

    def batches(
        self, batches: Sequence[Sequence[int]], pin_memory: bool = False
    ) -> Iterator[list[Tensor]]:
        """Yield the images of each batch, (H, W, 3) uint8 each."""


@dataclass(frozen=True)
class FileSplit:
    """Images on disk: their names below ``root``, sizes and objects."""

    root: Path
    names: NDArray[np.str_]
    sizes: Indices
    annotations: Annotations
    loader: ImageLoader

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return the pixels of one image, (H, W, 3). Raises UserError for a damaged one."""
        return self._file(index).read()

    def objects(self, index: int) -> Objects:
        """Return the objects of one image, in its pixels."""
        return self.annotations.objects(index)

    def take(self, indices: Indices) -> "FileSplit":
        """Return the images at ``indices``, in that order."""
        return replace(
            self,
            names=self.names[indices],
            sizes=self.sizes[indices],
            annotations=self.annotations.take(indices),
        )

    def batches(
        self, batches: Sequence[Sequence[int]], pin_memory: bool = False
    ) -> Iterator[list[Tensor]]:
        """Yield the images of each batch, (H, W, 3) uint8, decoded by the loader's workers."""
        files = ([self._file(index) for index in batch] for batch in batches)
        return read_files(self.loader, files, len(batches), pin_memory)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all file names, file sizes and objects, and of the contents of 256 files.

        These are evenly spread over the list; see :class:`rkkd_cli.data.streaming.split`.
        """
        digest = hashlib.sha256(b"detection 1")
        for name in self.names.tolist():
            digest.update(f"{name}\0{file_size(os.fsencode(self.root / name))}\0".encode())
        digest.update(np.ascontiguousarray(self.sizes).data)
        digest.update(self.annotations.digest)
        for index in _spread(len(self), SAMPLED_FILES):
            digest.update(file_digest(self.root / self.names[index]))
        return digest.hexdigest()

    def check_files(self, listed_in: str) -> None:
        """Raise UserError for image files that are missing, damaged or of another size.

        Headers are read: of all files, or of 5000 that are evenly spread over the list.
        """
        names_in: dict[str, set[str]] = defaultdict(set)
        for name in self.names.tolist():
            folder, _, file = name.rpartition("/")
            names_in[folder].add(file)
        missing = sorted(
            str(self.root / folder / file)
            for folder, files in names_in.items()
            for file in files - _files_in(self.root / folder)
        )
        if missing:
            raise UserError(
                f"{len(missing):,} of the {len(self):,} images listed in {listed_in} cannot "
                f"be found, such as {missing[0]}; put them there, or remove them from the list"
            )
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(self._check_header, _spread(len(self), MAX_HEADERS)):
                pass

    def _check_header(self, index: int) -> None:
        file = self._file(index)
        width, height = read_size(Path(file.path))
        file.check(height, width)

    def _file(self, index: int) -> SizedFile:
        height, width = self.sizes[index].tolist()
        return SizedFile(str(self.root / self.names[index]), height, width)


def _spread(count: int, most: int) -> list[int]:
    """Return all numbers below ``count``, or ``most`` of them at equal distances."""
    if not count:
        return []
    chosen: list[int] = np.unique(np.linspace(0, count - 1, most).astype(np.int64)).tolist()
    return chosen


def _files_in(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208  # Path objects for 100,000 files take longer
    except OSError:
        return set()
