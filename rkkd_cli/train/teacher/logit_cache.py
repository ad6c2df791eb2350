"""The teacher's logits on a stream's batches, kept on disk, one file per epoch.

A stream is determined by its seed, and so are the teacher's logits on it. An epoch's file,
``000012-<SHA-256>.npy``, holds the N images in the order of the stream: an array (N, C) of all
logits, or (N,) rows of what is kept of them.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from torch import Tensor

from rkkd_cli.files import TEMPORARY_SUFFIX, add_path_to_errors, file_sha256
from rkkd_cli.models import Features
from rkkd_cli.train.teacher.logit_rows import Kept, RowFormat, Rows, row_format
from rkkd_cli.train.teacher.model import Teacher
from rkkd_cli.train.teacher.several import Teachers, TeacherSet

FILE_NAME = re.compile(r"(\d{6})-([0-9a-f]{64})\.npy")


class LogitCache:
    """The folder of one stream's logits. They are read if they are there, and written if not.

    ``mode``: what of each image is kept, as ``cache_teacher`` says; with ``top:K`` also the rest at
    ``temperatures``. The arms get just that in either case, so a run's numbers do not depend on
    which files are there.
    """

    def __init__(
        self,
        folder: Path,
        mode: str,
        images: int,
        classes: int,
        temperatures: Sequence[float] = (),
    ) -> None:
        self.folder, self.mode = folder, mode
        self.images, self.classes = images, classes
        self.rows: RowFormat = row_format(mode, classes, temperatures)
        self.shape = images, *self.rows.dtype.shape
        self.problems: list[str] = []
        self.can_write = True

    @property
    def bytes_per_epoch(self) -> int:
        """The size of an epoch's file, without its header."""
        return self.images * self.rows.dtype.itemsize

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
        rows = self._read(epoch)
        if rows is not None:
            yield LogitReader(rows, self.rows, first_image, teacher)
            return
        writer = LogitWriter(self, epoch, teacher)
        try:
            if first_image == 0 and self.can_write:
                writer.begin()
            yield writer
        finally:
            writer.abandon()

    def _read(self, epoch: int) -> Rows | None:
        for path in sorted(self.folder.glob(f"{epoch:06d}-*.npy")):
            name = FILE_NAME.fullmatch(path.name)
            try:
                if name and file_sha256(path) == name[2]:
                    rows: Rows = np.load(path, mmap_mode="r", allow_pickle=False)
                    if rows.shape == self.shape and rows.dtype == self.rows.dtype.base:
                        return rows
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
        outputs: dict[str, Features] = {}
        for name, one in self.members.items():
            kept = one.outputs(images, features)
            assert isinstance(kept, Features)  # top:K is refused for several teachers
            outputs[name] = kept
        return outputs


class LogitReader:
    """Returns what is kept of an epoch's logits from its file."""

    def __init__(self, rows: Rows, row: RowFormat, first_image: int, teacher: Teacher) -> None:
        self.rows, self.format, self.next_image = rows, row, first_image
        self.device, self.task = teacher.device, teacher.task

    def outputs(self, images: Tensor, features: bool) -> Kept:
        """Return what is kept of the next batch. Only the number of ``images`` is used."""
        assert not features
        rows = self.rows[self.next_image : self.next_image + len(images)]
        self.next_image += len(images)
        return self.format.unpack(rows, self.device)


class LogitWriter:
    """Runs the teacher; after :meth:`begin`, what is kept is written to the epoch's file."""

    def __init__(self, cache: LogitCache, epoch: int, teacher: Teacher) -> None:
        self.cache, self.epoch, self.teacher, self.task = cache, epoch, teacher, teacher.task
        self.images_left = cache.images
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
                "descr": npy.dtype_to_descr(self.cache.rows.dtype.base),
                "fortran_order": False,
                "shape": self.cache.shape,
            }
            npy.write_array_header_1_0(self.file, header)

    def outputs(self, images: Tensor, features: bool) -> Kept:
        """Return what is kept of the teacher's logits, as in the file.

        Raises RunError for logits that the file cannot hold.
        """
        assert not features
        logits = self.teacher.outputs(images, features=False).logits
        kept = self.cache.rows.keep(logits)
        if self.file is not None:
            with self._stop_at_os_errors():
                self._append(self.file, self.cache.rows.pack(kept))
        return kept

    def abandon(self) -> None:
        """Close and remove a file that is incomplete."""
        if self.file is not None:
            with suppress(OSError):  # of a full disk
                self.file.close()
            self.file = None
            self.path.unlink(missing_ok=True)

    def _append(self, file: IO[bytes], rows: Rows) -> None:
        file.write(rows.tobytes())
        self.images_left -= len(rows)
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
