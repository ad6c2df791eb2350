"""Reads the content of a checkpoint file: tensors and plain containers, nothing else.

Nothing in a file is ever executed. PyTorch files are read with ``weights_only=True`` (see
:mod:`rkkd_cli.models.checkpoint.stand_ins` for the allowed names), NumPy's with
``allow_pickle=False``; safetensors files hold no code. Sizes are checked before memory is taken.
"""

import json
import re
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from rkkd_cli.errors import MAX_SHOWN_LENGTH, UserError
from rkkd_cli.models.checkpoint.kinds import HEAD_BYTES, missing_file, refuse_other_kinds
from rkkd_cli.models.checkpoint.stand_ins import STUBS

MAX_ENTRIES = 20_000  # tensors of a file, with those of optimisers; large models have some 5,000
INDEX = re.compile(r"\.index\.json$")  # the end of the name of an index of shards
MAX_INDEX_BYTES, MAX_SHARDS = 16 * 2**20, 1_000
NPZ_ERRORS = (
    zipfile.BadZipFile, zlib.error, ValueError, TypeError, NotImplementedError, EOFError,
    MemoryError,
)  # fmt: skip
LENGTH_BYTES = 8  # of the length of a safetensors header; the header begins with a brace
FORBIDDEN_NAME = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")


class FileContent(NamedTuple):
    """The content of a file, and the metadata of a safetensors file.

    ``files`` are those that were read: several for an index of shards.
    """

    content: Any
    metadata: Mapping[str, str]
    format: str
    files: tuple[Path, ...]


def read_file(path: Path) -> FileContent:
    """Return the content of a file, tensors on the CPU.

    Raises:
        UserError: the file does not exist, cannot be read, is empty, damaged or of another kind, or
            holds objects that only running code could restore.

    """
    if not path.is_file():
        raise missing_file(path)
    try:
        if INDEX.search(path.name):
            return _read_shards(path)
        check_memory(path, path.stat().st_size)
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if _is_safetensors(path, head):
            return _read_safetensors(path)
        if _is_npz(path, head):
            return _read_npz(path)
        refuse_other_kinds(path, head)
        return FileContent(_read_torch(path, head), {}, "PyTorch", (path,))
    except OSError as error:
        raise UserError(f"cannot read checkpoint {path}: {error.strerror or error}") from None


def weight_files(path: Path) -> tuple[Path, ...]:
    """Return the files in which the weights of a file are: those that an index names, or itself."""
    if not INDEX.search(path.name):
        return (path,)
    return tuple(path.parent / name for name in _shard_names(path))


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
            check_count(path, len(file.keys()))
        return FileContent(load_file(path, device="cpu"), metadata, "safetensors", (path,))
    except (OSError, UserError):
        raise
    except Exception as error:  # safetensors has several kinds of errors
        reason = str(error).splitlines()[0][: 2 * MAX_SHOWN_LENGTH] if str(error) else "unreadable"
        raise UserError(f"checkpoint {path} is no sound safetensors file: {reason}") from None


def _is_npz(path: Path, head: bytes) -> bool:
    if not head.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def _read_npz(path: Path) -> FileContent:
    """Read an archive of NumPy arrays; it may be compressed, so their sizes are read first."""
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        check_count(path, len(entries))
        check_memory(path, sum(entry.file_size for entry in entries))
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except UserError:
        raise
    except NPZ_ERRORS:
        raise UserError(
            f"checkpoint {path} is damaged, or holds other things than arrays of numbers"
        ) from None
    return FileContent(content, {}, "NumPy", (path,))


def _read_shards(index: Path) -> FileContent:
    """Read the files that an index, ``model.safetensors.index.json``, names beside itself."""
    shards = weight_files(index)
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise UserError(
            f"checkpoint {index} names {missing[0]}, which is not beside it ({len(missing)} of "
            f"{len(shards)} files are missing)"
        )
    check_memory(index, sum(shard.stat().st_size for shard in shards))
    content: dict[Any, Any] = {}
    for shard in shards:
        part = read_file(shard).content
        content |= part if type(part) in (dict, OrderedDict) else {shard.name: part}
    return FileContent(content, {}, f"{len(shards)} shards of the", shards)


def _shard_names(index: Path) -> list[str]:
    """Return the names of an index's files. Raises UserError for one that leads elsewhere."""
    try:
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise ValueError("too large")
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise UserError(f"checkpoint {index} is no index of a checkpoint's shards") from None
    for name in names:
        is_plain = isinstance(name, str) and name == Path(name).name and not INDEX.search(name)
        if not is_plain or len(names) > MAX_SHARDS:
            raise UserError(
                f"checkpoint {index} may name at most {MAX_SHARDS} files, beside itself"
            )
    return names


def check_memory(path: Path, needed: int) -> None:
    """Raise UserError for more bytes than there is free memory."""
    free = psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"checkpoint {path} holds {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory "
            "are free"
        )


def check_count(path: Path, count: int) -> None:
    """Raise UserError for more entries than any checkpoint has."""
    if count > MAX_ENTRIES:
        raise UserError(
            f"checkpoint {path} has {count:,} entries; at most {MAX_ENTRIES:,} are read"
        )


def _read_torch(path: Path, head: bytes) -> Any:
    if head.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            check_count(path, len(archive.infolist()))
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
