"""A split whose images stay on disk: its files, labels, and how images become pixels."""

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.data.folder_scan import FileIndex
from rkkd_cli.data.streaming.crops import Fit
from rkkd_cli.data.streaming.decode import file_digest
from rkkd_cli.data.streaming.loader import ImageLoader
from rkkd_cli.data.subsets import Indices
from rkkd_cli.errors import UserError

VERSION = 2  # raise it when the same files give other pixels
SEPARATOR = os.sep.encode()
SAMPLED_FILES = 256  # whose content the fingerprint of a split covers


@dataclass(frozen=True)
class StreamedSplit:
    """One split of a dataset, on disk. All splits share the ``loader``.

    ``size``: height and width of the pixels. ``crop``: the kind of training crop, ``padded``,
    ``resized`` or ``window`` (see :class:`rkkd_cli.data.images.Dataset`). ``resize``: how images
    are made to fit where they are ``padded`` (see :func:`rkkd_cli.data.streaming.crops.fit`).
    """

    files: FileIndex
    size: int
    crop: str
    loader: ImageLoader
    resize: Fit = "crop"

    def __len__(self) -> int:
        return len(self.files.labels)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class index of each image, (N,)."""
        return self.files.labels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the pixels."""
        return 3, self.size, self.size

    def path(self, index: int) -> str:
        """Return the path of one image."""
        return str(self.files.path(index))

    def take(self, indices: Indices) -> "StreamedSplit":
        """Return the images at ``indices``, in that order."""
        return replace(self, files=self.files.take(indices))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the size and kind of crop, and of all file names, labels and file sizes.

        It covers the contents of 256 files, evenly spread over the list (of all if there are no
        more): reading all of ImageNet would take as long as an epoch. So it detects files that were
        added, removed, renamed or changed in size, but other changes only in sampled files.
        """
        return self.compute_fingerprint()

    def compute_fingerprint(self) -> str:
        """Return the fingerprint of the files as they now are on this machine's disk."""
        kind = self.crop if self.resize == "crop" else f"{self.crop} {self.resize}"
        digest = hashlib.sha256(f"streamed {VERSION} {self.size} {kind}".encode())
        sizes, root = np.empty(len(self), dtype=np.int64), os.fsencode(self.files.root)
        for index, name in enumerate(self.files.names):
            digest.update(name + b"\0")
            sizes[index] = file_size(root + SEPARATOR + name)
        digest.update(np.ascontiguousarray(self.labels).data)
        digest.update(sizes.data)
        sampled = np.unique(np.linspace(0, len(self) - 1, SAMPLED_FILES).astype(np.int64))
        for index in sampled.tolist():
            digest.update(file_digest(self.files.path(index)))
        return digest.hexdigest()


def file_size(path: bytes) -> int:
    """Return the size of an image file. Raises UserError if it cannot be read."""
    try:
        return os.stat(path).st_size  # noqa: PTH116  # Path objects for a million files take seconds
    except OSError as error:
        raise UserError(f"cannot read the image {os.fsdecode(path)}: {error.strerror}") from None
