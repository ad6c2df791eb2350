"""Files that are either whole or not there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import BaseFileLock, FileLock, Timeout

UNFINISHED = ".rkkd-part"  # the end of a name that no finished file has


def write_problem(folder: Path) -> str | None:
    """Return why nothing could be written below ``folder``, or None. Leaves nothing behind."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        return f"{existing} is a file, not a folder"
    try:
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return error.strerror


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError from inside name ``path``: a failed write does not say to which file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a temporary file beside ``path``; afterwards sync it and rename it into place.

    When the writing fails, ``path`` stays as it was and nothing else is left. A process killed
    in between leaves the temporary file: see :func:`remove_leftovers`.
    """
    with naming(path):
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}-", suffix=UNFINISHED
        )
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_whole(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with whole_file(path) as file:
        file.write(text.encode())


def sync_folder(folder: Path) -> None:
    """Let the folder's names reach the disk. Windows has no such call and does it by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; nobody may be writing there now."""
    for path in folder.glob(f".*{UNFINISHED}"):
        if path.is_file():
            with suppress(OSError):
                path.unlink()


def try_lock(path: Path) -> BaseFileLock | None:
    """Return the lock on ``path``, taken, or None while another process holds it.

    Whoever only looks holds it for less time than this tries.

    The system frees it when its holder ends, in whatever way: ``flock`` on POSIX, ``LockFile`` on
    Windows. On a network file system without ``flock`` only processes of one machine see it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.3, poll_interval=0.02)
    except Timeout:
        return None
    return lock
