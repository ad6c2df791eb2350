"""From a checkpoint file to its content: tensors and plain containers, nothing else.

Nothing in a file is ever executed. PyTorch files are read with ``weights_only=True`` (what that
lets through: :mod:`rkkd_cli.models.checkpoint.stand_ins`); safetensors files hold no code.
"""

import json
import re
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rkkd_cli.errors import LONGEST_SHOWN, UserError
from rkkd_cli.models.checkpoint.stand_ins import STAND_INS

HEAD = 1024  # bytes by which a file's kind is told
LENGTH = 8  # bytes of the length of a safetensors header, which begins with a brace
FOREIGN = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")


class FileContent(NamedTuple):
    """What a file holds, and (safetensors only) the texts that describe it."""

    content: Any
    metadata: Mapping[str, str]
    format: str


def read_file(path: Path) -> FileContent:
    """Return the content of a file, tensors on the CPU.

    Raises:
        UserError: there is no such file, it cannot be read, it is empty, damaged or of another
            kind, or it holds objects that only code could bring back.

    """
    if not path.is_file():
        is_folder = path.is_dir()
        raise UserError(f"no such checkpoint file: {path}" + (" is a folder" if is_folder else ""))
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
        size = path.stat().st_size
        if _is_safetensors(path, head, size):
            return _read_safetensors(path, head)
        _refuse_other_kinds(path, head)
        return FileContent(_read_torch(path), {}, "PyTorch")
    except OSError as error:
        raise UserError(f"cannot read checkpoint {path}: {error.strerror or error}") from None


def _is_safetensors(path: Path, head: bytes, size: int) -> bool:
    if path.suffix == ".safetensors":
        return bool(head) and not head.startswith(b"PK")
    begins = head[LENGTH : LENGTH + 1] == b"{"
    return begins and int.from_bytes(head[:LENGTH], "little") <= size - LENGTH


def _read_safetensors(path: Path, head: bytes) -> FileContent:
    from safetensors.torch import load_file

    try:
        tensors = load_file(path, device="cpu")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH), "little")
            header = json.loads(file.read(length))
    except OSError:
        raise
    except Exception as error:  # the library has errors of several kinds
        reason = str(error).splitlines()[0][: 2 * LONGEST_SHOWN] if str(error) else "unreadable"
        raise UserError(f"checkpoint {path} is no sound safetensors file: {reason}") from None
    return FileContent(tensors, header.get("__metadata__") or {}, "safetensors")


def _refuse_other_kinds(path: Path, head: bytes) -> None:
    """Raise UserError for what is not worth a try: the sentence then says what it is instead."""
    kind = None
    if not head:
        kind = "is empty"
    elif head.startswith(b"version https://git-lfs"):
        kind = "is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`"
    elif head.lstrip()[:5].lower() in (b"<!doc", b"<html"):
        kind = "is a web page, probably of a download that wanted a confirmation"
    elif _is_text(head):
        kind = "is a text file, no checkpoint"
    elif head.startswith(b"PK"):
        kind = _problem_of_zip(path)
    elif tarfile.is_tarfile(path):
        kind = "is a tar archive; unpack it and name the file inside"
    if kind:
        raise UserError(f"checkpoint {path} {kind}")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < HEAD - 4 or len(head) < HEAD:  # else a character that the head cuts
            return False
        text = head[: error.start].decode()
    return all(c.isprintable() or c in "\r\n\t\f" for c in text)


def _problem_of_zip(path: Path) -> str | None:
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
    # PyTorch never compresses, so what claims to be larger inside than outside is no work of it.
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        return "is damaged or no PyTorch file"
    return None


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(STAND_INS):
            warnings.simplefilter("ignore")  # about the age of a file, or before its refusal
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise nearly anything
        if isinstance(error, OSError) and error.errno is not None:
            raise
        foreign = FOREIGN.search(str(error))
        if foreign is None:
            raise UserError(f"checkpoint {path} is damaged or no PyTorch file") from None
        raise UserError(
            f"checkpoint {path} holds a {foreign[1][:LONGEST_SHOWN]} object, which could run code "
            "and is never unpickled; save its state_dict alone"
        ) from None
