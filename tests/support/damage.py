"""Runs and files that are harmed: copies of a run, what happens to a file, what resume makes of it.

A change takes a path and does something to the file there.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.recording.reopen import ResumedRun, read_run, resume_run

Change = Callable[[Path], object]


@contextmanager
def copied(run: Path) -> Iterator[Path]:
    """Give a copy of a run that may be harmed."""
    with TemporaryDirectory() as place:
        yield Path(shutil.copytree(run, Path(place) / "results" / "run"))


def reopened(run: Path) -> ResumedRun:
    """Read a run back as `rkkd resume` does before it trains on."""
    directory = RunDirectory(run)
    directory.acquire()
    try:
        recorded = read_run(directory)
        return resume_run(recorded, recorded.experiment)
    finally:
        directory.release()


def torn(path: Path) -> None:
    """Leave the first half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    """Turn one bit over."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def holding(content: bytes) -> Change:
    """Write something else."""
    return lambda path: path.write_bytes(content)


emptied = holding(b"")


def changed(before: str, after: str) -> Change:
    """Replace a piece of text, which must be there."""

    def change(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert before in text
        path.write_text(text.replace(before, after), encoding="utf-8")

    return change
