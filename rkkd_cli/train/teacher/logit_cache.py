"""The teacher's logits on a stream's batches, kept on disk, one file per epoch.

A stream is determined by its seed, and so are the teacher's logits on it. An epoch's file,
``000012-<SHA-256>.npy``, holds an array (N, C) in the order of the stream: N images, C classes.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from rkkd_cli.errors import RunError
from rkkd_cli.files import TEMPORARY_SUFFIX, add_path_to_errors, file_sha256
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.models import Features
from rkkd_cli.train.teacher.model import Teacher
from rkkd_cli.train.teacher.several import Teachers, TeacherSet

CachePrecision = Literal["exact", "fp16"]

FILE_NAME = re.compile(r"(\d{6})-([0-9a-f]{64})\.npy")
DTYPES = {"exact": torch.float32, "fp16": torch.float16}
NUMPY_DTYPES = {"exact": np.dtype("float32").str, "fp16": np.dtype("float16").str}


class LogitCache:
    """The folder of one stream's logits. They are read if they are there, and written if not.

    ``exact`` stores float32. ``fp16`` halves the size and rounds each logit by at most 2⁻¹¹ of its
    value. The arms then get rounded logits in either case, so a run's numbers do not depend on
    which files are there.
    """

    def __init__(self, folder: Path, precision: CachePrecision, images: int, classes: int) -> None:
        self.folder, self.precision = folder, precision
        self.shape = images, classes
        self.problems: list[str] = []
        self.can_write = True

    @property
    def bytes_per_epoch(self) -> int:
        """The size of an epoch's file, without its header."""
        return self.shape[0] * self.shape[1] * DTYPES[self.precision].itemsize

    def cached_epochs(self) -> set[int]:
        """Return the epochs that have a file."""
        names = (FILE_NAME.fullmatch(path.name) for path in self.folder.glob("*.npy"))
        return {int(name[1]) for name in names if name}

    @contextmanager
    def open_epoch(
        self, epoch: int, first_image: int, teacher: Teachers
    ) -> Iterator["LogitReader | LogitWriter"]:
        """Give the source of the teacher's outputs in an epoch, from its ``first_image`` on.

        A damaged file is removed, and the teacher runs again. After a file could not be written, no
        further one is attempted. ``problems`` lists both. Only an epoch that is read from its
        first image to its last is written.
        """
        assert isinstance(teacher, Teacher)
        logits = self._read(epoch)
        if logits is not None:
            yield LogitReader(logits, first_image, teacher)
            return
        writer = LogitWriter(self, epoch, teacher)
        try:
            if first_image == 0 and self.can_write:
                writer.begin()
            yield writer
        finally:
            writer.abandon()

    def _read(self, epoch: int) -> NDArray[np.float32 | np.float16] | None:
        for path in sorted(self.folder.glob(f"{epoch:06d}-*.npy")):
            name = FILE_NAME.fullmatch(path.name)
            try:
                if name and file_sha256(path) == name[2]:
                    logits: NDArray[np.float32 | np.float16] = np.load(
                        path, mmap_mode="r", allow_pickle=False
                    )
                    if logits.shape == self.shape:
                        return logits
            except (OSError, ValueError) as error:
                self.problems.append(f"{path} cannot be read ({error}); the teacher runs again")
                continue
            self.problems.append(f"{path} is damaged; the teacher runs again in this epoch")
            path.unlink(missing_ok=True)
        return None


class LogitCaches:
    """The caches of several teachers by name, with the interface of one.

    Each teacher's logits are in a folder of its own, which runs with that teacher alone share.
    """

    def __init__(self, members: Mapping[str, LogitCache]) -> None:
        self.members = members
        self.folder = next(iter(members.values())).folder.parent
        self.problems: list[str] = []
        for cache in members.values():
            cache.problems = self.problems

    @property
    def bytes_per_epoch(self) -> int:
        """The size of an epoch's files."""
        return sum(cache.bytes_per_epoch for cache in self.members.values())

    def cached_epochs(self) -> set[int]:
        """Return the epochs of which each teacher has a file."""
        return set.intersection(*(cache.cached_epochs() for cache in self.members.values()))

    @contextmanager
    def open_epoch(
        self, epoch: int, first_image: int, teacher: Teachers
    ) -> Iterator["CachedOutputs"]:
        """Give the source of all teachers' outputs: see :meth:`LogitCache.open_epoch`."""
        assert isinstance(teacher, TeacherSet)
        with ExitStack() as stack:
            yield CachedOutputs(
                {
                    name: stack.enter_context(
                        cache.open_epoch(epoch, first_image, teacher.members[name])
                    )
                    for name, cache in self.members.items()
                }
            )


class CachedOutputs:
    """Returns the outputs of several teachers, each read from its file or written there."""

    def __init__(self, members: Mapping[str, "LogitReader | LogitWriter"]) -> None:
        self.members = members
        self.task = next(iter(members.values())).task

    def outputs(self, images: Tensor, features: bool) -> dict[str, Features]:
        """Return each teacher's logits of the next batch."""
        return {name: one.outputs(images, features) for name, one in self.members.items()}


class LogitReader:
    """Returns the logits of an epoch from its file."""

    def __init__(
        self, logits: NDArray[np.float32 | np.float16], first_image: int, teacher: Teacher
    ) -> None:
        self.logits, self.next_image = logits, first_image
        self.device, self.task = teacher.device, teacher.task

    def outputs(self, images: Tensor, features: bool) -> Features:
        """Return the logits of the next batch. Only the number of ``images`` is used."""
        assert not features
        rows = self.logits[self.next_image : self.next_image + len(images)]
        self.next_image += len(images)
        return logits_only(torch.from_numpy(np.array(rows)).to(self.device).float())


class LogitWriter:
    """Runs the teacher; after :meth:`begin`, its logits are written to the epoch's file."""

    def __init__(self, cache: LogitCache, epoch: int, teacher: Teacher) -> None:
        self.cache, self.epoch, self.teacher, self.task = cache, epoch, teacher, teacher.task
        self.dtype, self.images_left = DTYPES[cache.precision], cache.shape[0]
        self.path = cache.folder
        self.file: IO[bytes] | None = None

    def begin(self) -> None:
        """Create a temporary file and write its header."""
        with self._stop_at_os_errors():
            self.cache.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(
                dir=self.cache.folder, prefix=f".{self.epoch:06d}-", suffix=TEMPORARY_SUFFIX
            )
            self.path, self.file = Path(name), os.fdopen(handle, "wb")
            header = {
                "descr": NUMPY_DTYPES[self.cache.precision],
                "fortran_order": False,
                "shape": self.cache.shape,
            }
            npy.write_array_header_1_0(self.file, header)

    def outputs(self, images: Tensor, features: bool) -> Features:
        """Return the teacher's logits of the batch, rounded as in the file.

        Raises RunError for logits that float16 cannot represent.
        """
        assert not features
        logits = self.teacher.outputs(images, features=False).logits.to(self.dtype)
        if self.dtype == torch.float16 and not logits.isfinite().all():
            raise RunError(
                "the teacher has logits beyond 65504, which fp16 cannot hold; use "
                "cache_teacher=exact"
            )
        if self.file is not None:
            with self._stop_at_os_errors():
                self._append(self.file, logits.cpu())
        return logits_only(logits.float())

    def abandon(self) -> None:
        """Close and remove a file that is incomplete."""
        if self.file is not None:
            with suppress(OSError):  # of a full disk
                self.file.close()
            self.file = None
            self.path.unlink(missing_ok=True)

    def _append(self, file: IO[bytes], logits: Tensor) -> None:
        file.write(logits.numpy().tobytes())
        self.images_left -= len(logits)
        if self.images_left == 0:
            file.close()
            self.file = None
            digest = file_sha256(self.path)
            self.path.replace(self.cache.folder / f"{self.epoch:06d}-{digest}.npy")

    @contextmanager
    def _stop_at_os_errors(self) -> Iterator[None]:
        """If the block cannot write, report it and continue without files."""
        try:
            with add_path_to_errors(self.path):
                yield
        except OSError as error:
            self.cache.problems.append(
                f"the teacher's outputs cannot be kept ({error.strerror}: {error.filename}); the "
                "run continues without them"
            )
            self.cache.can_write = False
            self.abandon()
