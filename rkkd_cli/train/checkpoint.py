"""Checkpoints on disk: ``000012-<SHA-256>.pt``, the newest and the one before it.

A file's name contains the hash of its content, so both appear together, and anybody can check them
with ``sha256sum``. Nothing in a file is executed: it is loaded with ``weights_only=True``.
"""

import hashlib
import io
import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rkkd_cli.errors import RunError, UserError
from rkkd_cli.files import atomic_file, file_sha256, remove_leftovers

State = dict[str, Any]

FILE_NAME = re.compile(r"(\d{6,})-([0-9a-f]{64})\.pt")
CHECKPOINTS_TO_KEEP = 2


class LoadedCheckpoint(NamedTuple):
    """The newest intact checkpoint, and the newer ones that were damaged and have been removed."""

    state: State
    path: Path
    damaged: tuple[Path, ...]


class CheckpointStore:
    """The folder with the checkpoints of one stream, or of one teacher's training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def paths(self) -> list[Path]:
        """Return the checkpoints, the newest last."""
        if not self.folder.is_dir():
            return []
        named = [path for path in self.folder.iterdir() if FILE_NAME.fullmatch(path.name)]
        return sorted(named, key=_counter)

    def save(self, state: State) -> Path:
        """Write a checkpoint and read it back; then remove older ones than ``CHECKPOINTS_TO_KEEP``.

        Raises OSError if it cannot be written, RunError if the disk returns other bytes.
        """
        content = io.BytesIO()
        torch.save(state, content)
        older = self.paths()
        counter = _counter(older[-1]) + 1 if older else 1
        digest = hashlib.sha256(content.getbuffer()).hexdigest()
        path = self.folder / f"{counter:06d}-{digest}.pt"
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(content.getbuffer())
        if not is_intact(path):
            path.unlink()
            raise RunError(f"the disk did not keep {path} as it was written; check the disk")
        for old in older[: 1 - CHECKPOINTS_TO_KEEP]:
            old.unlink(missing_ok=True)
        return path

    def load(self) -> LoadedCheckpoint | None:
        """Return the newest intact checkpoint, or None if there never was one.

        Raises RunError if all are damaged, UserError for one that holds foreign objects.
        """
        remove_leftovers(self.folder)
        paths = self.paths()
        for newer, path in enumerate(reversed(paths)):
            if is_intact(path):
                state, damaged = _read(path), tuple(paths[len(paths) - newer :])
                for damaged_path in damaged:
                    damaged_path.unlink()
                return LoadedCheckpoint(state, path, damaged)
        if paths:
            names = ", ".join(path.name for path in paths)
            raise RunError(
                f"every checkpoint in {self.folder} is damaged ({names}); put back a copy, or "
                "remove the folder to train this from its start again"
            )
        return None

    def pin(self, label: str) -> None:
        """Keep the newest intact checkpoint, if any, under a name with ``label``."""
        newest = next((path for path in reversed(self.paths()) if is_intact(path)), None)
        if newest is None or self.pinned(label):
            return
        pinned = self.folder / f"kept-{label}-{_digest(newest)}.pt"
        try:
            os.link(newest, pinned)
        except OSError:  # a file system without hard links
            shutil.copyfile(newest, pinned)

    def pinned(self, label: str) -> Path | None:
        """Return the checkpoint that was pinned under ``label``, if any."""
        return next(self.folder.glob(f"kept-{label}-{'?' * 64}.pt"), None)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def is_intact(path: Path) -> bool:
    """Tell whether the content of a checkpoint still has the hash of its name.

    Raises OSError if it cannot be read, which does not mean that it is damaged.
    """
    return file_sha256(path) == _digest(path)


NEW_RUN = "put back the code that it was trained with, or begin a new run"


def misfit_error(name: str, error: Exception, advice: str = NEW_RUN) -> RunError:
    """Return the error for an intact checkpoint that does not fit what is being trained."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    why = " ".join(lines[:2])  # PyTorch lists every tensor that does not fit
    more = f" and {len(lines) - 2} more" if len(lines) > 2 else ""
    return RunError(
        f"the checkpoint of {name} does not fit what is being trained ({why}{more}); {advice}"
    )


def _counter(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _digest(path: Path) -> str:
    return path.stem.rpartition("-")[2]


def _read(path: Path) -> State:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"checkpoint {path} holds objects other than tensors, which are never unpickled; "
            "remove it"
        ) from None
    except Exception:  # a file that only looks like a checkpoint may make torch raise anything
        raise UserError(f"{path} is not a checkpoint of rkkd; remove it") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} is not a checkpoint of rkkd; remove it")
    return state
