"""Finds the weights in a checkpoint file, and what else the file states about its model.

A file is a state dict (torchvision, timm, DIST's segmentation), or has one under a key beside
epoch, optimiser and options (RepDistiller, mdistiller, SimKD, DIST, timm's and torchvision's
training scripts, Lightning). Keys may have a prefix from a wrapper of the model (``module.`` of
DistributedDataParallel, ``model.`` of Lightning, ``_orig_mod.`` of torch.compile).
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rkkd_cli.errors import UserError
from rkkd_cli.models.checkpoint.read import read_file
from rkkd_cli.models.checkpoint.stand_ins import Stub

Tensors = dict[str, Tensor]

STATE_DICT_KEYS = ("model", "state_dict", "net", "model_state_dict", "network", "weights")
EMA_KEYS = ("state_dict_ema", "model_ema", "ema_model", "ema_state_dict")

# Where a file names its model: in its metadata, at the top level, or in the options saved with it.
NAME_KEYS = ("rkkd.model", "architecture", "arch", "model", "model_name", "model_s")
OPTION_KEYS = ("opt", "args", "hyper_parameters", "config")

# Networks to try inside a state dict that holds more than one: a student beside its teacher in
# mdistiller's own checkpoints, a network beside metrics and losses in a LightningModule's.
SUBMODULES = ("student", "model", "net", "network", "backbone")

COMPILE_PREFIX = "_orig_mod."
AVERAGE_COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel, beside its module


class CheckpointWeights(NamedTuple):
    """The weights of a file, under the file's own keys.

    ``key`` is the entry that is the state dict (empty if the whole file is). ``ema``: these are
    moving averages; ``has_other_ema``: the file also has moving averages that were not chosen.
    ``stated_names`` are those that the file states for its model, ``metadata`` is that of a
    safetensors file.
    """

    path: Path
    tensors: Tensors
    key: str
    ema: bool
    has_other_ema: bool
    stated_names: tuple[str, ...]
    metadata: Mapping[str, str]
    format: str


class StateDictView(NamedTuple):
    """The state dict of one network in a file, without the prefix that all its keys had."""

    tensors: Tensors
    stripped_prefix: str


def read_weights(path: Path, ema: bool = False) -> CheckpointWeights:
    """Return the weights in a file, or with ``ema`` their moving averages.

    Raises UserError for a file without weights, or one that
    :func:`rkkd_cli.models.checkpoint.read.read_file` refuses.
    """
    file = read_file(path)
    content = _plain_dict(file.content) or {}
    plain = _find_state_dict(content, STATE_DICT_KEYS)
    averaged = _find_state_dict(content, EMA_KEYS)
    if ema and averaged is None:
        raise UserError(f"checkpoint {path} has no EMA weights; looked for {', '.join(EMA_KEYS)}")
    entry = averaged if ema else plain or averaged or ("", content)
    assert entry is not None
    key, state_dict = entry
    return CheckpointWeights(
        path,
        _checked_tensors(state_dict, path),
        key,
        ema=key in EMA_KEYS,
        has_other_ema=averaged is not None and key not in EMA_KEYS,
        stated_names=tuple(_stated_names(file.metadata, content)),
        metadata=file.metadata,
        format=file.format,
    )


def candidate_views(tensors: Tensors) -> Iterator[StateDictView]:
    """Yield the networks that a state dict may hold: all of it, then its likely submodules."""
    whole = strip_prefix(tensors)
    yield whole
    for submodule in SUBMODULES:
        start = f"{submodule}."
        inside = {k.removeprefix(start): t for k, t in whole.tensors.items() if k.startswith(start)}
        if inside:
            inner = strip_prefix(inside)
            prefix = f"{whole.stripped_prefix}{submodule}.{inner.stripped_prefix}"
            yield StateDictView(inner.tensors, prefix)


def strip_prefix(tensors: Mapping[str, Tensor]) -> StateDictView:
    """Return the tensors without the prefix that all keys share, and without wrappers' extras."""
    renamed = {key.replace(COMPILE_PREFIX, ""): tensor for key, tensor in tensors.items()}
    if len(renamed) < len(tensors):
        renamed = dict(tensors)
    renamed.pop(AVERAGE_COUNTER, None)
    prefix = common_prefix(renamed)
    return StateDictView({key[len(prefix) :]: tensor for key, tensor in renamed.items()}, prefix)


def common_prefix(keys: Iterable[str]) -> str:
    """Return the prefix that all keys share, up to a dot: ``module.model.`` for example."""
    paths = [key.split(".")[:-1] for key in keys]
    shared = takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    return "".join(f"{names[0]}." for names in shared)


def _plain_dict(value: Any) -> dict[Any, Any] | None:
    """Return a mapping as a plain dict, or None for anything else.

    A file can give an OrderedDict attributes, so methods of its choice: call those of dict instead.
    """
    return dict(dict.items(value)) if isinstance(value, dict) else None


def _find_state_dict(content: dict[Any, Any], keys: Iterable[str]) -> tuple[str, Any] | None:
    """Return the first of the entries that is a mapping, or such an entry inside it."""
    for key in keys:
        entry = _plain_dict(content.get(key))
        if entry is not None:
            is_state_dict = all(isinstance(value, Tensor) for value in entry.values())
            inner = None if is_state_dict else _find_state_dict(entry, keys)
            return (f"{key}.{inner[0]}", inner[1]) if inner else (key, entry)
    return None


def _checked_tensors(state_dict: dict[Any, Any], path: Path) -> Tensors:
    """Return the state dict's tensors. Raises UserError for anything that is no state dict."""
    if not state_dict:
        raise UserError(f"checkpoint {path} holds no weights")
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state_dict.items()):
        raise UserError(
            f"checkpoint {path} holds no state dict; looked under {', '.join(STATE_DICT_KEYS)}"
        )
    for key, tensor in state_dict.items():
        has_values = tensor.layout is torch.strided and tensor.device.type == "cpu"
        is_usual_type = type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_quantized
        if not has_values or not is_usual_type:
            raise UserError(
                f"checkpoint {path} holds no plain numbers in {key} (sparse, quantised or empty "
                "of values); save the state_dict of the plain model"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise UserError(f"checkpoint {path} is of no use: {key} has NaN or infinite values")
    return {key: tensor.detach() for key, tensor in state_dict.items()}


def _stated_names(metadata: Mapping[str, str], content: dict[Any, Any]) -> Iterator[str]:
    """Yield the names of its model that a file states."""
    if "version" in content and isinstance(content.get("arch"), str):  # timm's CheckpointSaver
        yield f"timm:{content['arch']}"
    options = [content.get(key) for key in OPTION_KEYS]
    attributes = [o.attributes if isinstance(o, Stub) else _plain_dict(o) for o in options]
    for entries in (metadata, content, *attributes):
        for key in NAME_KEYS:
            name = (entries or {}).get(key)
            if isinstance(name, str):
                yield name
