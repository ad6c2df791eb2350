"""Weights out of files: our own, and the published teacher files of the field.

Nothing in a file is ever executed: only tensors and plain containers are unpickled.
"""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rkkd_cli.errors import UserError

# Under which key a file keeps its weights beside epoch, optimiser and the like.
NESTED_KEYS = ("model", "state_dict", "net", "model_state_dict")

# Old training scripts stored their learning rate as a numpy scalar: data, not code.
NUMPY_SCALAR = np.float64(0).__reduce__()[0]
HARMLESS: list[Any] = [
    (NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
]


def load_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Load the weights in ``path`` into ``model``, every name and shape exactly matching.

    Reads files that are a state dict or hold one under ``model``, ``state_dict``, ``net`` or
    ``model_state_dict``; a ``module.`` prefix (DataParallel) is taken off.

    Raises:
        UserError (a ValueError): the file is missing, truncated, no checkpoint, holds objects
            other than tensors and plain containers, or does not fit the model.

    """
    weights = read_weights(Path(path))
    _check_fit(model, weights, Path(path))
    model.load_state_dict(weights, strict=True)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict that the file holds, on the CPU. Raises UserError."""
    content = _read(path)
    for key in NESTED_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"checkpoint {path} holds no weights")
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        raise UserError(
            f"checkpoint {path} holds no state dict; looked under {', '.join(NESTED_KEYS)}"
        )
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"no such checkpoint file: {path}")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")  # about the age of a file, or before its refusal
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise nearly anything
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise UserError(
                f"checkpoint {path} holds objects other than tensors, which are never unpickled; "
                "save its state_dict alone"
            ) from None
        raise UserError(f"checkpoint {path} is damaged or no PyTorch file") from None


def _check_fit(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    expected = model.state_dict()
    missing = [name for name in expected if name not in weights]
    foreign = [name for name in weights if name not in expected]
    if missing or foreign:
        example = f"missing {missing[0]}" if missing else f"unexpected {foreign[0]}"
        raise UserError(
            f"checkpoint {path} is of another architecture: {len(missing)} parameters missing, "
            f"{len(foreign)} unexpected (first: {example})"
        )
    wrong = [name for name in expected if weights[name].shape != expected[name].shape]
    if wrong:
        name = wrong[0]
        has, needs = tuple(weights[name].shape), tuple(expected[name].shape)
        classifier = list(expected)[-1].rpartition(".")[0]
        if all(other.rpartition(".")[0] == classifier for other in wrong):
            raise UserError(
                f"checkpoint {path} was trained on {has[0]} classes, the dataset has {needs[0]}"
            )
        raise UserError(
            f"checkpoint {path} is of another architecture: {name} is {has}, the model's {needs}"
        )
