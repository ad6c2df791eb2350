"""Reads the content of a checkpoint file: tensors and plain containers, nothing else.

Nothing in a file is ever executed. PyTorch files are read with ``weights_only=True`` (see
:mod:`rkkd_cli.models.checkpoint.stand_ins` for the allowed names); safetensors files hold no code.
"""

import re
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rkkd_cli.errors import MAX_SHOWN_LENGTH, UserError
from rkkd_cli.models.checkpoint.stand_ins import STUBS

HEAD_BYTES = 1024  # enough to recognise the kind of a file
LENGTH_BYTES = 8  # of the length of a safetensors header; the header begins with a brace
FORBIDDEN_NAME = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")


class FileContent(NamedTuple):
    """The content of a file, and the metadata of a safetensors file."""

    content: Any
    metadata: Mapping[str, str]
    format: str


def read_file(path: Path) -> FileContent:
    """Return the content of a file, tensors on the CPU.

    Raises:
        UserError: the file does not exist, cannot be read, is empty, damaged or of another kind, or
            holds objects that only running code could restore.

    """
    if not path.is_file():
        hint = " is a folder" if path.is_dir() else ""
        raise UserError(f"no such checkpoint file: {path}{hint}")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if _is_safetensors(path, head):
            return _read_safetensors(path)
        _refuse_other_kinds(path, head)
        return FileContent(_read_torch(path), {}, "PyTorch")
    except OSError as error:
        raise UserError(f"cannot read checkpoint {path}: {error.strerror or error}") from None


def _is_safetensors(path: Path, head: bytes) -> bool:
    if path.suffix == ".safetensors":
        return bool(head) and not head.startswith(b"PK")
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    return head[LENGTH_BYTES:].startswith(b"{") and LENGTH_BYTES + length <= path.stat().st_size


def _read_safetensors(path: Path) -> FileContent:
    from safetensors import safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return FileContent(load_file(path, device="cpu"), metadata, "safetensors")
    except OSError:
        raise
    except Exception as error:  # safetensors has several kinds of errors
        reason = str(error).splitlines()[0][: 2 * MAX_SHOWN_LENGTH] if str(error) else "unreadable"
        raise UserError(f"checkpoint {path} is no sound safetensors file: {reason}") from None


def _refuse_other_kinds(path: Path, head: bytes) -> None:
    """Raise UserError for a file that is no checkpoint, saying what it is instead."""
    problem = None
    if not head:
        problem = "is empty"
    elif head.startswith(b"version https://git-lfs"):
        problem = "is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`"
    elif head.lstrip()[:5].lower() in (b"<!doc", b"<html"):
        problem = "is a web page, probably of a download that wanted a confirmation"
    elif _is_text(head):
        problem = "is a text file, no checkpoint"
    elif head.startswith(b"PK"):
        problem = _zip_problem(path)
    elif tarfile.is_tarfile(path):
        problem = "is a tar archive; unpack it and name the file inside"
    if problem:
        raise UserError(f"checkpoint {path} {problem}")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        cuts_character = error.start >= HEAD_BYTES - 4 and len(head) == HEAD_BYTES
        if not cuts_character:
            return False
        text = head[: error.start].decode()
    return all(c.isprintable() or c in "\r\n\t\f" for c in text)


def _zip_problem(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "is damaged or cut off, or no PyTorch file"
    names = [entry.filename for entry in entries]
    if any(name.endswith("/constants.pkl") for name in names):
        return "is a TorchScript archive, whose code is never run; save its state_dict alone"
    if not any(name.endswith("/data.pkl") for name in names):
        return "is a zip archive, but no checkpoint; unpack it and name the file inside"
    # PyTorch never compresses: an archive that is larger inside than outside is not its work.
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        return "is damaged or no PyTorch file"
    return None


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(STUBS):
            warnings.simplefilter("ignore")  # about old files, and before a refusal
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise nearly anything
        if isinstance(error, OSError) and error.errno is not None:
            raise
        forbidden = FORBIDDEN_NAME.search(str(error))
        if forbidden is None:
            raise UserError(f"checkpoint {path} is damaged or no PyTorch file") from None
        raise UserError(
            f"checkpoint {path} holds a {forbidden[1][:MAX_SHOWN_LENGTH]} object, which could run "
            "code and is never unpickled; save its state_dict alone"
        ) from None
