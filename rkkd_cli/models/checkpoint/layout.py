"""Finds the weights in a checkpoint file, and what else the file states about its model.

A file is a state dict (torchvision, timm, DIST's segmentation), or has one under a key beside
epoch, optimiser and options (RepDistiller, mdistiller, SimKD, DIST, timm's and torchvision's
training scripts, Lightning). Keys may have a prefix from a wrapper of the model (``module.`` of
DistributedDataParallel, ``model.`` of Lightning, ``_orig_mod.`` of torch.compile).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rkkd_cli.errors import MAX_SHOWN_LENGTH, UserError
from rkkd_cli.models.checkpoint.read import check_count, check_memory, read_file
from rkkd_cli.models.checkpoint.stand_ins import Stub

Tensors = dict[str, Tensor]

STATE_DICT_KEYS = ("model", "state_dict", "net", "model_state_dict", "network", "weights")
EMA_KEYS = ("state_dict_ema", "model_ema", "ema_model", "ema_state_dict")

# Where a file names its model: in its metadata, at the top level, or in the options saved with it.
NAME_KEYS = ("rkkd.model", "architecture", "arch", "model", "model_name", "model_s")
OPTION_KEYS = ("opt", "args", "hyper_parameters", "config")

# Networks to try inside a state dict that holds more than one: a student beside its teacher in
# mdistiller's own checkpoints, a network beside metrics and losses in a LightningModule's.
SUBMODULES = ("module", "student", "model", "net", "network", "backbone")

MAX_DEPTH, MAX_CONTAINERS = 4, 100_000  # of the search for state dicts in a file
MAX_NAMES = 8  # of entries in a message

# What PyTorch converts to float32 or int64 on a CPU.
DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
    torch.float8_e5m2, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip

COMPILE_PREFIX = "_orig_mod."
AVERAGE_COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel, beside its module


class CheckpointWeights(NamedTuple):
    """The weights of a file, under the file's own keys.

    ``key`` is the entry that is the state dict (empty if the whole file is). ``ema``: these are
    moving averages; ``has_other_ema``: the file also has moving averages that were not chosen.
    ``stated_names`` are those that the file states for its model, ``metadata`` is that of a
    safetensors file. ``ignore_unexpected``: the model need not have all of the tensors; ``ignored``
    are the entries that were no tensors. ``files`` are those that were read.
    """

    path: Path
    files: tuple[Path, ...]
    tensors: Tensors
    key: str
    ema: bool
    has_other_ema: bool
    stated_names: tuple[str, ...]
    metadata: Mapping[str, str]
    format: str
    ignore_unexpected: bool = False
    ignored: tuple[str, ...] = ()


class StateDictView(NamedTuple):
    """The state dict of one network in a file, without the prefix that all its keys had."""

    tensors: Tensors
    stripped_prefix: str


def read_weights(
    path: Path, ema: bool = False, entry: str | None = None, ignore_unexpected: bool = False
) -> CheckpointWeights:
    """Return the weights in a file, with ``ema`` their moving averages, or those of an ``entry``.

    ``ignore_unexpected`` leaves out what is no tensor, and later what the model does not have.

    Raises UserError for a file without weights, or one that
    :func:`rkkd_cli.models.checkpoint.read.read_file` refuses.
    """
    file = read_file(path)
    entries = _find_state_dicts(file.content, path)
    averaged = _first_known(entries, EMA_KEYS)
    key = entry if entry is not None else averaged if ema else _choose(entries, averaged, path)
    if key is None:
        raise UserError(f"checkpoint {path} has no EMA weights; looked for {', '.join(EMA_KEYS)}")
    if key not in entries:
        raise UserError(
            f"checkpoint {path} has no weights under {key[:MAX_SHOWN_LENGTH]!r}; it "
            f"{_describe(entries)}"
        )
    tensors, others = _split_tensors(entries[key])
    check_count(path, len(tensors))
    if others and not ignore_unexpected:
        raise UserError(
            f"checkpoint {path} has entries among its weights that are no tensors: "
            f"{_shortened(others)}; `rkkd teacher import FILE --ignore-unexpected` leaves them out"
        )
    return CheckpointWeights(
        path,
        file.files,
        _checked_tensors(tensors, path),
        key,
        ema=_is_known(key, EMA_KEYS),
        has_other_ema=averaged is not None and not _is_known(key, EMA_KEYS),
        stated_names=tuple(_stated_names(file.metadata, _plain_dict(file.content) or {})),
        metadata=file.metadata,
        format=file.format,
        ignore_unexpected=ignore_unexpected,
        ignored=tuple(others),
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
    ordered = sorted(keys)  # what the first and the last share, all do
    paths = [key.split(".")[:-1] for key in (ordered[:1] + ordered[-1:])]
    shared = takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    return "".join(f"{names[0]}." for names in shared)


def _plain_dict(value: Any) -> dict[Any, Any] | None:
    """Return a mapping as a plain dict, or None for anything else.

    A file can give an OrderedDict attributes, so methods of its choice: call those of dict instead.
    """
    return dict(dict.items(value)) if isinstance(value, dict) else None


def _find_state_dicts(content: Any, path: Path) -> dict[str, dict[Any, Any]]:
    """Return every state dict in a file by its entry, ``a.b`` inside others; "" is the whole file.

    A mapping with a matrix in it is one, or with any tensor if none has a matrix; but not those
    under numbers, which are an optimiser's.
    """
    found: dict[str, dict[Any, Any]] = {}
    without_matrix: dict[str, dict[Any, Any]] = {}
    seen: set[int] = set()

    def search(value: Any, name: str) -> None:
        if id(value) in seen or len(seen) > MAX_CONTAINERS or name.count(".") > MAX_DEPTH:
            return
        seen.add(id(value))
        items = _plain_dict(value)
        if items is None and type(value) in (list, tuple):
            items = {str(index): item for index, item in enumerate(value)}
        if items is None:
            return
        dims = [Tensor.dim(item) for item in items.values() if isinstance(item, Tensor)]
        if dims and isinstance(value, dict):
            (found if max(dims) >= 2 else without_matrix)[name] = items
        for key, item in items.items():
            if isinstance(key, str):
                search(item, f"{name}.{key}" if name else key)

    search(content, "")
    found = found or without_matrix
    if not found:
        items = _plain_dict(content)
        kinds = {key: type(item).__name__ for key, item in (items or {}).items()}
        names = [f"{key} ({kind.replace('Stub', 'object')})" for key, kind in kinds.items()]
        entries = f"; its entries are {_shortened(names)}" if names else ""
        raise UserError(f"checkpoint {path} holds no state dict{entries}")
    return found


def _is_known(name: str, keys: Sequence[str]) -> bool:
    return bool(name) and set(name.split(".")) <= set(keys)


def _first_known(entries: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """Return the entry under the first of the keys, or of such keys inside it."""
    known = [name for name in entries if _is_known(name, keys)]
    return min(known, key=lambda name: [keys.index(k) for k in name.split(".")], default=None)


def _choose(entries: Mapping[str, Any], averaged: str | None, path: Path) -> str:
    """Return the entry that is meant: a usual one, or the only one. Raises UserError if unclear."""
    known = _first_known(entries, STATE_DICT_KEYS) or averaged
    if known is None and len(entries) > 1:
        raise UserError(
            f"checkpoint {path} {_describe(entries)}; name one with "
            "`rkkd teacher import FILE --entry NAME`"
        )
    return known or next(iter(entries))


def _describe(entries: Mapping[str, Mapping[Any, Any]]) -> str:
    names = [
        f"{name} ({len(items):,} entries)" if name else f"'' (all of it, {len(items):,} entries)"
        for name, items in entries.items()
    ]
    return f"holds {_shortened(names)}"


def _shortened(names: Iterable[Any]) -> str:
    """Return names of a file in a list that is short enough for a message."""
    texts = [str(name)[:MAX_SHOWN_LENGTH] for name in names]
    more = len(texts) - MAX_NAMES
    return ", ".join(texts[:MAX_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def _split_tensors(items: Mapping[Any, Any]) -> tuple[dict[str, Tensor], list[Any]]:
    """Return the tensors of a state dict, and the keys of all else."""
    tensors = {k: v for k, v in items.items() if isinstance(k, str) and isinstance(v, Tensor)}
    return tensors, [key for key in items if key not in tensors]


def _checked_tensors(state_dict: Mapping[str, Tensor], path: Path) -> Tensors:
    """Return the state dict's tensors. Raises UserError for any that holds no plain numbers.

    A file can give a tensor attributes, so methods of its choice: detaching it drops them.
    """
    tensors = {key: Tensor.detach(tensor) for key, tensor in state_dict.items()}
    for key, tensor in tensors.items():
        has_values = tensor.layout is torch.strided and tensor.device.type == "cpu"
        if not has_values or type(tensor) is not Tensor or tensor.is_quantized:
            raise UserError(
                f"checkpoint {path} holds no plain numbers in {key} (sparse, quantised or empty "
                "of values); save the state_dict of the plain model"
            )
        if tensor.dtype not in DTYPES:
            raise UserError(
                f"checkpoint {path} holds numbers of {tensor.dtype} in {key}, which PyTorch does "
                "not convert; save them as float32"
            )
    check_memory(path, sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()))
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise UserError(f"checkpoint {path} is of no use: {key} has NaN or infinite values")
    return tensors


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
