"""PyTorch files and what is in them: weights, states, and what would run code."""

import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Call:
    """Pickled as a call, which is made wherever the file is trusted."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def saved(thing: object, zipped: bool = True) -> bytes:
    """Return the content of a PyTorch file, in the zip format or in the older one."""
    file = io.BytesIO()
    torch.save(thing, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def through_a_file(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state as it comes out of a checkpoint."""
    loaded: dict[str, Any] = torch.load(io.BytesIO(saved(state)), weights_only=True)
    return loaded


def foreign(folder: Path, content: bytes, number: int = 7) -> Path:
    """Write a checkpoint as anybody could: its name has the right hash."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{number:06d}-{hashlib.sha256(content).hexdigest()}.pt"
    path.write_bytes(content)
    return path


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Tell whether two state dicts have the same names and values."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
