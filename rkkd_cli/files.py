"""Atomic writes, hashes, file locks, and errors that name the file."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import BaseFileLock, FileLock, Timeout

TEMPORARY_SUFFIX = ".rkkd-part"  # no finished file's name ends with it


def write_problem(folder: Path) -> str | None:
    """Return why no file can be written below ``folder``, or None. Leaves no file behind."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        return f"{existing} is a file, not a folder"
    try:
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return error.strerror


@contextmanager
def add_path_to_errors(path: Path) -> Iterator[None]:
    """Add ``path`` to an OSError from inside the block: a failed write does not name its file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path``; at the end, sync it and rename it to ``path``.

    If writing fails, ``path`` stays as it was and the temporary file is removed. A process that is
    killed leaves the temporary file behind: see :func:`remove_leftovers`.
    """
    with add_path_to_errors(path):
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}-", suffix=TEMPORARY_SUFFIX
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


def write_atomically(path: Path, text: str) -> None:
    """Write a text in UTF-8, completely or not at all."""
    with atomic_file(path) as file:
        file.write(text.encode())


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Sync the folder's entries to the disk. Windows does this by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed processes. No process may be writing to the folder."""
    for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        if path.is_file():
            with suppress(OSError):
                path.unlink()


def try_lock(path: Path) -> BaseFileLock | None:
    """Acquire the lock on ``path``; return it, or None if another process holds it.

    A process that only tests the lock holds it more briefly than this function waits. The system
    releases the lock (``flock`` on POSIX, ``LockFile`` on Windows) however its holder ends. On a
    network file system without ``flock`` only processes of one machine see it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.3, poll_interval=0.02)
    except Timeout:
        return None
    return lock
