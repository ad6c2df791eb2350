"""Checkpoints on disk: ``000012-<SHA-256>.pt``, the newest and the one before it.

A file's name carries the hash of its content, so name and content appear together, and anybody
can check it with ``sha256sum``. Nothing in a file is ever executed: ``weights_only=True``.
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
from rkkd_cli.files import remove_leftovers, whole_file

State = dict[str, Any]

NAME = re.compile(r"(\d{6,})-([0-9a-f]{64})\.pt")
KEPT = 2


class Loaded(NamedTuple):
    """The newest checkpoint that is whole, and newer ones that were not: they are removed."""

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
        named = [path for path in self.folder.iterdir() if NAME.fullmatch(path.name)]
        return sorted(named, key=_number)

    def save(self, state: State) -> Path:
        """Write a checkpoint and read it back; only then remove what is older than the last one.

        Raises OSError when it cannot be written, RunError when the disk gives back other bytes.
        """
        content = io.BytesIO()
        torch.save(state, content)
        older = self.paths()
        number = _number(older[-1]) + 1 if older else 1
        digest = hashlib.sha256(content.getbuffer()).hexdigest()
        path = self.folder / f"{number:06d}-{digest}.pt"
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(content.getbuffer())
        if not is_whole(path):
            path.unlink()
            raise RunError(f"the disk did not keep {path} as it was written; check the disk")
        for old in older[: 1 - KEPT]:
            old.unlink(missing_ok=True)
        return path

    def load(self) -> Loaded | None:
        """Return the newest checkpoint that is whole, or None where there never was one.

        Raises RunError when all are damaged, UserError for one that holds foreign objects.
        """
        remove_leftovers(self.folder)
        paths = self.paths()
        for number, path in enumerate(reversed(paths)):
            if is_whole(path):
                state, damaged = _read(path), tuple(paths[len(paths) - number :])
                for one in damaged:
                    one.unlink()
                return Loaded(state, path, damaged)
        if paths:
            names = ", ".join(path.name for path in paths)
            raise RunError(
                f"every checkpoint in {self.folder} is damaged ({names}); put back a copy, or "
                "remove the folder to train this from its start again"
            )
        return None

    def keep(self, label: str) -> None:
        """Keep the newest checkpoint for good, under a name with ``label``, if there is one."""
        newest = next((path for path in reversed(self.paths()) if is_whole(path)), None)
        if newest is None or self.kept(label):
            return
        kept = self.folder / f"kept-{label}-{_digest(newest)}.pt"
        try:
            os.link(newest, kept)
        except OSError:  # a file system without hard links
            shutil.copyfile(newest, kept)

    def kept(self, label: str) -> Path | None:
        """Return the checkpoint that was kept under ``label``, if any."""
        return next(self.folder.glob(f"kept-{label}-{'?' * 64}.pt"), None)

    def remove(self) -> None:
        """Remove the folder: what was trained is kept elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)


def is_whole(path: Path) -> bool:
    """Tell whether the content of a checkpoint still has the hash of its name.

    Raises OSError where it cannot be read, which does not mean that it is damaged.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == _digest(path)


def misfit(name: str, error: Exception) -> RunError:
    """Return the error for a checkpoint that is whole, but not of what is being trained."""
    why = " ".join(str(error).split())
    return RunError(
        f"the checkpoint of {name} does not fit ({type(error).__name__}: {why}); remove its folder "
        "to train from the start again"
    )


def _number(path: Path) -> int:
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
    except Exception:  # what only looks like a checkpoint makes the reader raise nearly anything
        raise UserError(f"{path} is no checkpoint of rkkd; remove it") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} is no checkpoint of rkkd; remove it")
    return state
