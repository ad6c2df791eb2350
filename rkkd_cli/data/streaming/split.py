"""A split whose images stay on the disk: files, labels, and how they become pixels."""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.data.folder_scan import Files, Index
from rkkd_cli.data.streaming.decode import file_digest
from rkkd_cli.data.streaming.pool import Decoders
from rkkd_cli.errors import UserError

VERSION = 1  # raised when the same files give other pixels
SEPARATOR = os.sep.encode()
SAMPLE = 256  # files of a split whose content the fingerprint covers


@dataclass(frozen=True)
class ListedImages:
    """One split of a dataset, on the disk; all splits share their ``decoders``.

    ``size`` is that of the pixels, ``crop`` one of :data:`rkkd_cli.data.streaming.crops.CROPS`.
    """

    files: Files
    size: int
    crop: str
    decoders: Decoders

    def __len__(self) -> int:
        return len(self.files.labels)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The number of the class of each image, (N,)."""
        return self.files.labels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the pixels."""
        return 3, self.size, self.size

    def path(self, number: int) -> str:
        """Return the path of one image."""
        return str(self.files.path(number))

    def take(self, index: Index) -> "ListedImages":
        """Return the images at ``index``, in that order."""
        return ListedImages(self.files.take(index), self.size, self.crop, self.decoders)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of how images are cut, and of all names, labels and file sizes.

        Of the contents it covers those of 256 files, evenly spread over the list, or of all where
        there are no more: to read all of ImageNet takes as long as an epoch. So it tells files
        that were added, removed, renamed or written anew, but not one whose bytes changed while
        their number stayed, unless it is in the sample.
        """
        return self.fingerprint_now()

    def fingerprint_now(self) -> str:
        """Return the fingerprint of the files as they are on this machine's disk."""
        text = f"streamed {VERSION} {self.size} {self.crop}"
        digest = hashlib.sha256(text.encode())
        sizes, root = np.empty(len(self), dtype=np.int64), os.fsencode(self.files.root)
        for number, name in enumerate(self.files.names):
            digest.update(name + b"\0")
            sizes[number] = _file_size(root + SEPARATOR + name)
        digest.update(np.ascontiguousarray(self.labels).data)
        digest.update(sizes.data)
        for number in np.unique(np.linspace(0, len(self) - 1, SAMPLE).astype(np.int64)):
            digest.update(file_digest(self.files.path(int(number))))
        return digest.hexdigest()


def _file_size(path: bytes) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  # a Path for each of a million takes seconds
    except OSError as error:
        raise UserError(f"cannot read the image {os.fsdecode(path)}: {error.strerror}") from None
