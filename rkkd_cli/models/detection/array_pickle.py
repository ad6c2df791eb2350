"""Reads a pickle of NumPy arrays, as detectron2 publishes its weights. Nothing in it is executed.

A pickle names functions, and unpickling calls them. Here only the names with which NumPy writes
arrays are known, and each leads to a stand-in of ours that keeps its arguments; every other name is
refused. The numbers are then read from the kept bytes.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rkkd_cli.errors import MAX_SHOWN_LENGTH, UserError, printable
from rkkd_cli.models.checkpoint.kinds import missing_file
from rkkd_cli.models.checkpoint.layout import CheckpointWeights
from rkkd_cli.models.checkpoint.read import check_count, check_memory

MODEL = "model"  # the entry with the weights; the others are text
KINDS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")
BIG_ENDIAN = ">"


class DtypeStub:
    """Keeps the name of a type of numbers, and its byte order."""

    __slots__ = ("kind", "order")

    def __init__(self, kind: Any = None, *args: Any) -> None:
        self.kind, self.order = kind, "<"

    def __setstate__(self, state: Any) -> None:
        if type(state) is tuple and len(state) > 1:
            self.order = state[1]


class ArrayStub:
    """Keeps what NumPy writes of an array: version, shape, type, layout, bytes."""

    __slots__ = ("state",)

    def __init__(self, *args: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class ScalarStub:
    """Keeps nothing: of a single number, or of numpy.ndarray where it is an argument."""

    __slots__ = ()

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass  # without this, a state could set attributes of the class


class BytesStub:
    """Gives the bytes that older pickles write as text."""

    __slots__ = ()

    def __new__(cls, text: str = "", *args: Any) -> Any:
        """Return the bytes."""
        return str.encode(text, "latin1")

    def __setstate__(self, state: Any) -> None:
        pass


MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
STANDS_FOR: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): DtypeStub,
    ("numpy", "ndarray"): ScalarStub,
    **{(module, "_reconstruct"): ArrayStub for module in MODULES},
    **{(module, "scalar"): ScalarStub for module in MODULES},
    ("_codecs", "encode"): BytesStub,
    ("__builtin__", "bytes"): BytesStub,
}


class ArrayUnpickler(pickle.Unpickler):
    """Knows the names of NumPy's arrays only."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name. Raises UserError for any other."""
        try:
            return STANDS_FOR[module, name]
        except KeyError:
            shown = printable(f"{module}.{name}")[:MAX_SHOWN_LENGTH]
            raise UserError(
                f"holds a {shown} object, which could run code and is never unpickled"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        """Refuse what is kept outside of the file."""
        raise UserError("refers to objects outside of it")


def read_array_pickle(path: Path) -> CheckpointWeights:
    """Return the weights of a pickle with NumPy arrays by their names under ``model``.

    Raises UserError for another file, or one with other objects.
    """
    if not path.is_file():
        raise missing_file(path)
    check_memory(path, 2 * path.stat().st_size)
    try:
        with path.open("rb") as file:
            content = ArrayUnpickler(file, encoding="latin1").load()
    except UserError as error:
        raise UserError(f"checkpoint {path} {error}") from None
    except OSError as error:
        raise UserError(f"cannot read checkpoint {path}: {error.strerror or error}") from None
    except Exception:  # a damaged pickle makes the unpickler raise nearly anything
        raise UserError(f"checkpoint {path} is damaged, or no pickle of arrays") from None
    entries = content.get(MODEL, content) if type(content) is dict else None
    if type(entries) is not dict or not any(isinstance(a, ArrayStub) for a in entries.values()):
        raise UserError(f"checkpoint {path} holds no arrays by their names")
    check_count(path, len(entries))
    tensors = {
        name: _tensor(path, name, array)
        for name, array in entries.items()
        if isinstance(name, str) and isinstance(array, ArrayStub)
    }
    return CheckpointWeights(
        path, (path,), tensors, MODEL, False, False, (), {}, "pickle of NumPy arrays"
    )


def _tensor(path: Path, name: str, array: ArrayStub) -> Tensor:
    """Return an array's numbers. Raises UserError if its parts do not fit, or are not finite."""
    try:
        _, shape, dtype, is_fortran, data = array.state
        assert dtype.kind in KINDS
        assert dtype.order in "<>|="
        raw = data.encode("latin1") if type(data) is str else data
        order = BIG_ENDIAN if dtype.order == BIG_ENDIAN else "<"
        flat = np.frombuffer(raw, dtype=np.dtype(order + dtype.kind))
        values = flat.reshape(shape, order="F" if is_fortran else "C")
        tensor = torch.from_numpy(np.array(values, values.dtype.newbyteorder("="), order="C"))
    except (ValueError, TypeError, AttributeError, AssertionError):
        shown = printable(name)[:MAX_SHOWN_LENGTH]
        raise UserError(f"checkpoint {path} holds no plain numbers in {shown}") from None
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise UserError(f"checkpoint {path} is of no use: {name} has NaN or infinite values")
    return tensor
