"""Atomic writes, hashes, file locks, and errors that name the file."""

import codecs
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import BaseFileLock, FileLock, Timeout

MAX_TEXT_BYTES = 64 * 2**20  # of a preset, a manifest or published values
TEMPORARY_SUFFIX = ".rkkd-part"  # no finished file's name ends with it


def write_problem(folder: Path) -> str | None:
    """Return why no file can be written below ``folder``, or None. Leaves no file behind."""
    candidates = (folder, *folder.absolute().parents)  # some below a folder that may not be read
    existing = next(path for path in candidates if os.access(path, os.F_OK))
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


def read_file(path: Path, most: int = MAX_TEXT_BYTES) -> bytes:
    """Return the bytes of a regular file.

    Raises OSError for a device or a pipe, which may never end, and for more than ``most`` bytes.
    """
    facts = path.stat()
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    if facts.st_size > most:
        raise OSError(errno.EFBIG, f"it has more than {most // 2**20:,} MiB", str(path))
    with path.open("rb") as file:
        return file.read(facts.st_size)


def decode_text(content: bytes) -> str:
    """Return the text of a file from any editor, with ``\n`` line ends.

    It is UTF-8, or begins with a byte order mark, as Windows writes before UTF-8 and UTF-16. Raises
    UnicodeDecodeError.
    """
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of a file; of several, that of their hashes in a row."""
    hashes = [file_sha256(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


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
