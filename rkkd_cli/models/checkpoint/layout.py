"""Where in a checkpoint file the weights are, and what else it tells of the model.

The layouts: a state dict alone (torchvision, timm, DIST's segmentation), or one under a key beside
epoch, optimiser and options (RepDistiller, mdistiller, SimKD, DIST, timm's and torchvision's
training scripts, Lightning). Names may begin with what wrapped the model (``module.`` of
DistributedDataParallel, ``model.`` of Lightning, ``_orig_mod.`` of torch.compile).
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rkkd_cli.errors import UserError
from rkkd_cli.models.checkpoint.read import read_file
from rkkd_cli.models.checkpoint.stand_ins import Inert

Tensors = dict[str, Tensor]

PLAIN_KEYS = ("model", "state_dict", "net", "model_state_dict", "network", "weights")
EMA_KEYS = ("state_dict_ema", "model_ema", "ema_model", "ema_state_dict")

# Where a file speaks of its model: in itself, or in the options saved with it.
NAME_KEYS = ("arch", "model", "model_name", "model_s")
OPTION_KEYS = ("opt", "args", "hyper_parameters", "config")

# What to try where a state dict holds more than one network: a student beside its teacher in
# mdistiller's own checkpoints, a network beside metrics and losses in a LightningModule's.
PARTS = ("student", "model", "net", "network", "backbone")

COMPILED = "_orig_mod."
AVERAGED = "n_averaged"  # torch.optim.swa_utils.AveragedModel's counter beside its module


class Weights(NamedTuple):
    """The weights of a file, under its own names, and how they were found.

    ``key`` is the entry that they stood under (empty: the file is a state dict), ``ema`` tells
    whether they are moving averages, ``other_ema`` that the file has such, too. ``words`` are
    what the file says of its model, ``beside`` names its entries, ``metadata`` is what a
    safetensors file says of itself.
    """

    path: Path
    tensors: Tensors
    key: str
    ema: bool
    other_ema: bool
    words: tuple[str, ...]
    metadata: Mapping[str, str]
    format: str
    beside: frozenset[str] = frozenset()


class View(NamedTuple):
    """A network's weights under bare names; ``taken_off`` is what stood before all of them."""

    tensors: Tensors
    taken_off: str


def read_weights(path: Path, ema: bool = False) -> Weights:
    """Return the weights in a file; with ``ema`` the moving averages of them.

    Raises UserError for a file without (see :func:`rkkd_cli.models.checkpoint.read.read_file`
    for the others).
    """
    file = read_file(path)
    content = _plain(file.content)
    plain, averaged = _under(content, PLAIN_KEYS), _under(content, EMA_KEYS)
    if ema and averaged is None:
        raise UserError(f"checkpoint {path} has no EMA weights; looked for {', '.join(EMA_KEYS)}")
    found = averaged if ema else plain or averaged or ("", content)
    assert found is not None
    key, state = found
    return Weights(
        path,
        _checked(state, path),
        key,
        key in EMA_KEYS,
        averaged is not None and key not in EMA_KEYS,
        tuple(_words(content)),
        file.metadata,
        file.format,
        frozenset(key for key in content or {} if isinstance(key, str)) if key else frozenset(),
    )


def views(tensors: Tensors) -> Iterator[View]:
    """Yield the networks that a state dict may hold: all of it, then its likely parts."""
    whole = bare(tensors)
    yield whole
    for part in PARTS:
        inside = {
            name.removeprefix(f"{part}."): tensor
            for name, tensor in whole.tensors.items()
            if name.startswith(f"{part}.")
        }
        if inside:
            inner = bare(inside)
            yield View(inner.tensors, f"{whole.taken_off}{part}.{inner.taken_off}")


def bare(tensors: Mapping[str, Tensor]) -> View:
    """Return the tensors without the beginning that all their names share."""
    renamed = {name.replace(COMPILED, ""): tensor for name, tensor in tensors.items()}
    if len(renamed) < len(tensors):
        renamed = dict(tensors)
    renamed.pop(AVERAGED, None)
    start = shared_start(renamed)
    return View({name[len(start) :]: tensor for name, tensor in renamed.items()}, start)


def shared_start(names: Iterable[str]) -> str:
    """Return the beginning that all names share, up to a dot: ``module.model.`` for example."""
    split = [name.split(".")[:-1] for name in names]
    shared = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "".join(f"{part}." for part in shared)


def _plain(value: Any) -> dict[Any, Any] | None:
    """Return a mapping as a plain dict.

    A file can give an OrderedDict attributes, thus methods of its own choice: those of dict are
    called instead.
    """
    return dict(dict.items(value)) if isinstance(value, dict) else None


def _under(content: dict[Any, Any] | None, keys: Iterable[str]) -> tuple[str, Any] | None:
    """Return the first of the entries that is a mapping, looking through one more layer."""
    for key in keys:
        inner = _plain((content or {}).get(key))
        if inner is not None:
            deeper = (
                None if all(isinstance(v, Tensor) for v in inner.values()) else _under(inner, keys)
            )
            return (f"{key}.{deeper[0]}", deeper[1]) if deeper else (key, inner)
    return None


def _checked(state: dict[Any, Any] | None, path: Path) -> Tensors:
    """Return the state dict's tensors. Raises UserError for what is none."""
    if not state:
        raise UserError(f"checkpoint {path} holds no weights")
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise UserError(
            f"checkpoint {path} holds no state dict; looked under {', '.join(PLAIN_KEYS)}"
        )
    for name, tensor in state.items():
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or _is_odd(tensor):
            raise UserError(
                f"checkpoint {path} holds no plain numbers in {name} (sparse, quantised or empty "
                "of values); save the state_dict of the plain model"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise UserError(f"checkpoint {path} is of no use: {name} has NaN or infinite values")
    return {name: tensor.detach() for name, tensor in state.items()}


def _is_odd(tensor: Tensor) -> bool:
    return tensor.is_quantized or type(tensor) not in (Tensor, torch.nn.Parameter)


def _words(content: dict[Any, Any] | None) -> Iterator[str]:
    """Yield what the file says of its model."""
    for key in NAME_KEYS:
        word = (content or {}).get(key)
        if isinstance(word, str):
            yield word
    for key in OPTION_KEYS:
        options = (content or {}).get(key)
        attributes = options.attributes if isinstance(options, Inert) else _plain(options)
        for name in NAME_KEYS:
            word = (attributes or {}).get(name)
            if isinstance(word, str):
                yield word
