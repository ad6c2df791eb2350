"""Loads checkpoint files into a model: our own, and the published teacher files of the field."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rkkd_cli.errors import UserError
from rkkd_cli.models.checkpoint.layout import (
    CheckpointWeights,
    Tensors,
    candidate_views,
    read_weights,
    strip_prefix,
)
from rkkd_cli.models.checkpoint.upgrade import upgrade_keys

# BatchNorm's count of batches. Files older than PyTorch 0.4.1 lack it, and nothing but training
# without momentum reads it.
BATCH_COUNTER = "num_batches_tracked"

MAY_BE_NO_WEIGHTS = (
    "; if these are no weights, `rkkd teacher import FILE --ignore-unexpected` leaves them out"
)
MAX_HEADS = 2

OTHER_CLASSES = "was trained on"  # how the message about another number of classes begins


def load_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Load the weights in ``path`` into ``model``; every key and shape must match.

    Reads PyTorch and safetensors files in the layouts of the field (see
    ``rkkd_cli.models.checkpoint.layout``). On an error the model does not change.

    Raises:
        UserError (a ValueError): the file is missing, truncated, no checkpoint, holds objects
            other than tensors and plain containers, or does not fit the model.

    """
    load_fitted(model, fit_weights(read_weights(Path(path)), model.state_dict()).state)


class ReplacedHead(NamedTuple):
    """The last layer of a model, whose weights are not those of the file.

    It has ``classes``; that of the file has ``file_classes``, or 0 if the file has none.
    """

    layer: str
    file_classes: int
    classes: int

    def __str__(self) -> str:
        layer = f" ({self.layer})" if self.layer not in ("", "head") else ""
        if not self.file_classes:
            return f"the head{layer} of {self.classes} classes begins with random weights"
        return (
            f"the head{layer} of {self.file_classes} classes is replaced by one of {self.classes} "
            "with random weights"
        )


class FittedWeights(NamedTuple):
    """A file's weights under a model's keys.

    ``stripped_prefix`` is the prefix that the file's keys had. ``dropped_heads`` are auxiliary
    heads in the file that the model does not have, ``ignored`` other entries. ``replaced_head``:
    the model keeps its own head.
    """

    state: Tensors
    stripped_prefix: str
    dropped_heads: tuple[str, ...]
    ignored: tuple[str, ...]
    replaced_head: ReplacedHead | None = None


def load_fitted(model: nn.Module, state: Tensors) -> None:
    """Load weights that are known to fit, under the keys of the model's installed version."""
    versioned = OrderedDict(state)
    # Some libraries look for version marks here, where torch's own state dicts have them.
    versioned._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]
    model.load_state_dict(versioned, strict=True)


def fit_weights(
    weights: CheckpointWeights, expected: Mapping[str, Tensor], classes: int | None = None
) -> FittedWeights:
    """Return the weights under the keys of the ``expected`` state dict (meta tensors will do).

    If the number of ``classes`` is given, a head of another number, or none, does not matter: that
    of ``expected`` is taken.

    Raises UserError that says how they differ.
    """
    target = strip_prefix(expected)
    misfits = []
    for view in candidate_views(weights.tensors):
        tensors, dropped_heads = upgrade_keys(view.tensors, target.tensors)
        unexpected = [key for key in tensors if key not in target.tensors]
        ignored = unexpected if weights.ignore_unexpected else []
        tensors = {key: tensor for key, tensor in tensors.items() if key not in ignored}
        head = _other_head(tensors, target.tensors, classes) if classes else {}
        tensors |= {key: target.tensors[key] for key in head}
        misfit = find_misfit(tensors, target.tensors)
        if misfit is None:
            counters = target.tensors.keys() - tensors.keys()  # which old files lack
            tensors |= {key: torch.zeros((), dtype=torch.long) for key in counters}
            state = {target.stripped_prefix + key: tensors[key] for key in target.tensors}
            names = (*weights.ignored, *ignored)
            replaced = _replaced_head(head, classes) if head and classes else None
            return FittedWeights(state, view.stripped_prefix, dropped_heads, names, replaced)
        misfits.append(misfit)
    closest = next((misfit for misfit in misfits if misfit.startswith(OTHER_CLASSES)), misfits[0])
    raise UserError(f"checkpoint {weights.path} {closest}")


def find_misfit(tensors: Tensors, expected: Mapping[str, Tensor]) -> str | None:
    """Return how the tensors differ from the expected ones, in words after "checkpoint X"."""
    missing = [k for k in expected if k not in tensors and not k.endswith(BATCH_COUNTER)]
    unexpected = [key for key in tensors if key not in expected]
    if unexpected and not missing:
        return (
            f"is of another architecture: 0 parameters missing, {len(unexpected)} unexpected "
            f"(first: unexpected {', '.join(unexpected[:2])}){MAY_BE_NO_WEIGHTS}"
        )
    if missing:
        return (
            f"is of another architecture: {len(missing)} parameters missing, "
            f"{len(unexpected)} unexpected (first: missing {missing[0]})"
        )
    present = {key: tensor for key, tensor in expected.items() if key in tensors}
    wrong = [key for key, tensor in present.items() if tensors[key].shape != tensor.shape]
    if wrong:
        key = wrong[0]
        shape, expected_shape = tuple(tensors[key].shape), tuple(expected[key].shape)
        if _differ_in_classes(wrong, tensors, expected):
            return f"{OTHER_CLASSES} {shape[0]} classes, the dataset has {expected_shape[0]}"
        return f"is of another architecture: {key} is {shape}, the model's {expected_shape}"
    for key, tensor in present.items():
        same_kind = tensors[key].is_floating_point() == tensor.is_floating_point()
        if not same_kind and not key.endswith(BATCH_COUNTER):  # averaging makes fractions of counts
            return f"is of another architecture: {key} holds {tensors[key].dtype}"
    return None


def _other_head(tensors: Tensors, expected: Mapping[str, Tensor], classes: int) -> dict[str, int]:
    """Return the tensors of a head that differs in its number of classes only.

    Each with its number in the file, 0 for one that the file does not have. Empty if other tensors
    differ as well. Distilled transformers have two heads, all others one.
    """
    head = {
        key: len(tensors[key]) if key in tensors else 0
        for key, tensor in expected.items()
        if (key not in tensors and not key.endswith(BATCH_COUNTER))
        or (key in tensors and tensors[key].shape != tensor.shape)
    }
    fits = all(
        expected[key].ndim >= 1
        and len(expected[key]) == classes
        and (not count or tensors[key].shape[1:] == expected[key].shape[1:])
        for key, count in head.items()
    )
    layers = {key.rpartition(".")[0] for key in head}
    is_whole = all(key in head for key in expected if key.rpartition(".")[0] in layers)
    is_one = len(layers) <= MAX_HEADS and len(set(head.values())) == 1
    return head if fits and is_whole and is_one else {}


def _replaced_head(head: Mapping[str, int], classes: int) -> ReplacedHead:
    layers = dict.fromkeys(key.rpartition(".")[0] for key in head)
    return ReplacedHead(" and ".join(layers), next(iter(head.values())), classes)


def _differ_in_classes(wrong: list[str], tensors: Tensors, expected: Mapping[str, Tensor]) -> bool:
    """Return whether the shapes differ in the number of outputs of one layer only."""
    layers = {key.rpartition(".")[0] for key in wrong}
    same_inputs = all(
        tensors[key].ndim == expected[key].ndim >= 1
        and tensors[key].shape[1:] == expected[key].shape[1:]
        for key in wrong
    )
    return len(layers) == 1 and same_inputs and len(expected) - len(wrong) > 1
