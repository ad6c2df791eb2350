"""The teacher's logits on a stream's batches, kept on disk, epoch by epoch.

A stream is a function of its seed, so what the teacher says of it is one too. A folder has one
file an epoch, ``000012-<SHA-256>.npy``, (N, C) in the order of the stream: N images, C classes.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from rkkd_cli.errors import RunError
from rkkd_cli.files import UNFINISHED, naming
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.models import Features
from rkkd_cli.train.teacher.model import Teacher
from rkkd_cli.train.teacher.store import file_sha256

Kind = Literal["exact", "fp16"]

NAME = re.compile(r"(\d{6})-([0-9a-f]{64})\.npy")
DTYPES = {"exact": torch.float32, "fp16": torch.float16}


class LogitCache:
    """The folder of one stream's logits, read where they are, written where they are not.

    ``exact`` keeps float32. ``fp16`` halves the size and rounds each logit by at most 2⁻¹¹ of its
    value; the arms see the rounded ones also when they are computed, so that a run has the same
    numbers whether its files are there or not.
    """

    def __init__(self, folder: Path, kind: Kind, images: int, classes: int) -> None:
        self.folder, self.kind = folder, kind
        self.shape = images, classes
        self.problems: list[str] = []
        self.can_write = True

    @property
    def bytes_an_epoch(self) -> int:
        """The size of an epoch's file, without its header."""
        return self.shape[0] * self.shape[1] * DTYPES[self.kind].itemsize

    def epochs_there(self) -> set[int]:
        """Return the epochs of which there is a file."""
        names = (NAME.fullmatch(path.name) for path in self.folder.glob("*.npy"))
        return {int(name[1]) for name in names if name}

    @contextmanager
    def epoch(
        self, number: int, first: int, teacher: Teacher
    ) -> Iterator["LogitReader | LogitWriter"]:
        """Give what says what the teacher says in an epoch, from its ``first`` image on.

        A damaged file is removed and its epoch computed again; once one cannot be written, none is
        any more. Both are named in ``problems``. An epoch that is not seen from its first
        image to its last is not written.
        """
        found = self._read(number)
        if found is not None:
            yield LogitReader(found, first, teacher)
            return
        writer = LogitWriter(self, number, teacher)
        try:
            if first == 0 and self.can_write:
                writer.begin()
            yield writer
        finally:
            writer.abandon()

    def _read(self, number: int) -> NDArray[np.float32 | np.float16] | None:
        for path in sorted(self.folder.glob(f"{number:06d}-*.npy")):
            name = NAME.fullmatch(path.name)
            try:
                if name and file_sha256(path) == name[2]:
                    found: NDArray[np.float32 | np.float16] = np.load(
                        path, mmap_mode="r", allow_pickle=False
                    )
                    if found.shape == self.shape:
                        return found
            except (OSError, ValueError) as error:
                self.problems.append(f"{path} cannot be read ({error}); the teacher looks again")
                continue
            self.problems.append(f"{path} is damaged; the teacher looks again at its epoch")
            path.unlink(missing_ok=True)
        return None


class LogitReader:
    """The logits of an epoch out of its file."""

    def __init__(
        self, logits: NDArray[np.float32 | np.float16], first: int, teacher: Teacher
    ) -> None:
        self.logits, self.next, self.device = logits, first, teacher.device

    def outputs(self, images: Tensor, features: bool) -> Features:
        """Return the logits of the batch that comes next, of which the images are not looked at."""
        assert not features
        part = self.logits[self.next : self.next + len(images)]
        self.next += len(images)
        return logits_only(torch.from_numpy(np.array(part)).to(self.device).float())


class LogitWriter:
    """The teacher itself; what it says goes into the epoch's file, once that has begun."""

    def __init__(self, cache: LogitCache, number: int, teacher: Teacher) -> None:
        self.cache, self.number, self.teacher = cache, number, teacher
        self.dtype, self.left = DTYPES[cache.kind], cache.shape[0]
        self.path = cache.folder
        self.file: IO[bytes] | None = None

    def begin(self) -> None:
        """Open the file."""
        self._trying(self._open)

    def outputs(self, images: Tensor, features: bool) -> Features:
        """Return the teacher's logits of the batch, rounded as the file keeps them.

        Raises RunError for logits that float16 cannot hold.
        """
        assert not features
        logits = self.teacher.outputs(images, features=False).logits
        kept = logits.to(self.dtype)
        if self.dtype == torch.float16 and not kept.isfinite().all():
            raise RunError(
                "the teacher has logits beyond 65504, which fp16 cannot hold; use "
                "cache_teacher=exact"
            )
        if self.file is not None:
            self._trying(lambda: self._append(kept.cpu()))
        return logits_only(kept.float())

    def abandon(self) -> None:
        """Close and remove a file that is not whole."""
        if self.file is not None:
            with suppress(OSError):  # of a full disk
                self.file.close()
            self.file = None
            self.path.unlink(missing_ok=True)

    def _open(self) -> None:
        self.cache.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=self.cache.folder, prefix=f".{self.number:06d}-", suffix=UNFINISHED
        )
        self.path, self.file = Path(name), os.fdopen(handle, "wb")
        kind = {torch.float32: np.float32, torch.float16: np.float16}[self.dtype]
        header = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": self.cache.shape}
        npy.write_array_header_1_0(self.file, header)

    def _append(self, content: Tensor) -> None:
        assert self.file is not None
        self.file.write(content.numpy().tobytes())
        self.left -= len(content)
        if self.left == 0:
            self.file.close()
            self.file = None
            digest = file_sha256(self.path)
            self.path.replace(self.cache.folder / f"{self.number:06d}-{digest}.npy")

    def _trying(self, write: Callable[[], None]) -> None:
        """Write, or say why it is not possible and go on without."""
        try:
            with naming(self.path):
                write()
        except OSError as error:
            self.cache.problems.append(
                f"the teacher's outputs cannot be kept ({error.strerror}: {error.filename}); the "
                "run goes on without"
            )
            self.cache.can_write = False
            self.abandon()
