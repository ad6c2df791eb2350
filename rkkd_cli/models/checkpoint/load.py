"""Weights out of files into a model: our own, and the published teacher files of the field."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from rkkd_cli.errors import UserError
from rkkd_cli.models.checkpoint.layout import Tensors, Weights, bare, read_weights, views
from rkkd_cli.models.checkpoint.upgrade import in_todays_form

# Counts the batches that BatchNorm has seen; files older than PyTorch 0.4.1 lack it, and nothing
# but its training without momentum reads it.
COUNTER = "num_batches_tracked"

OTHER_CLASSES = "was trained on"


def load_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Load the weights in ``path`` into ``model``, every name and shape exactly matching.

    Reads PyTorch and safetensors files in the layouts of the field (see
    :mod:`rkkd_cli.models.checkpoint.layout`). The model is left alone where they do not fit.

    Raises:
        UserError (a ValueError): the file is missing, truncated, no checkpoint, holds objects
            other than tensors and plain containers, or does not fit the model.

    """
    load_fitted(model, fitting(read_weights(Path(path)), model.state_dict()).state)


class Fitted(NamedTuple):
    """A file's weights under a model's names.

    ``taken_off`` is what stood before all names in the file, ``left_out`` are the auxiliary heads
    that the file has and the model has not.
    """

    state: Tensors
    taken_off: str
    left_out: tuple[str, ...]


def load_fitted(model: nn.Module, state: Tensors) -> None:
    """Load weights that have been found to fit, names being those of the model's own version."""
    versioned = OrderedDict(state)
    # Some libraries look for their version marks here, as torch's own state dicts have them.
    versioned._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]
    model.load_state_dict(versioned, strict=True)


def fitting(weights: Weights, expected: Mapping[str, Tensor]) -> Fitted:
    """Return the weights under the names of ``expected``, which may be on the meta device.

    Raises UserError that says how they differ.
    """
    target = bare(expected)
    problems = []
    for view in views(weights.tensors):
        tensors, left_out = in_todays_form(view.tensors, target.tensors)
        misfit = find_misfit(tensors, target.tensors)
        if misfit is None:
            tensors = with_counters(tensors, target.tensors)
            state = {target.taken_off + name: tensors[name] for name in target.tensors}
            return Fitted(state, view.taken_off, left_out)
        problems.append(misfit)
    closest = next((text for text in problems if text.startswith(OTHER_CLASSES)), problems[0])
    raise UserError(f"checkpoint {weights.path} {closest}")


def with_counters(tensors: Tensors, expected: Mapping[str, Tensor]) -> Tensors:
    """Return the tensors with the counters that old files lack, at zero."""
    lacking = {
        name: tensor.new_zeros((), device="cpu")
        for name, tensor in expected.items()
        if name not in tensors and name.endswith(COUNTER)
    }
    return tensors | lacking


def find_misfit(tensors: Tensors, expected: Mapping[str, Tensor]) -> str | None:
    """Return how tensors differ from what a model expects, in words after "checkpoint X"."""
    missing = [n for n in expected if n not in tensors and not n.endswith(COUNTER)]
    foreign = [name for name in tensors if name not in expected]
    if missing or foreign:
        example = f"missing {missing[0]}" if missing else f"unexpected {foreign[0]}"
        return (
            f"is of another architecture: {len(missing)} parameters missing, "
            f"{len(foreign)} unexpected (first: {example})"
        )
    present = {name: tensor for name, tensor in expected.items() if name in tensors}
    wrong = [name for name, tensor in present.items() if tensors[name].shape != tensor.shape]
    if wrong:
        name = wrong[0]
        has, needs = tuple(tensors[name].shape), tuple(expected[name].shape)
        if _differ_in_classes(wrong, tensors, expected):
            return f"{OTHER_CLASSES} {has[0]} classes, the dataset has {needs[0]}"
        return f"is of another architecture: {name} is {has}, the model's {needs}"
    for name, tensor in present.items():
        same_kind = tensors[name].is_floating_point() == tensor.is_floating_point()
        if not same_kind and not name.endswith(COUNTER):  # averaging makes fractions of counters
            return f"is of another architecture: {name} holds {tensors[name].dtype}"
    return None


def _differ_in_classes(wrong: list[str], tensors: Tensors, expected: Mapping[str, Tensor]) -> bool:
    """Tell whether the shapes differ in the outputs of one layer and in nothing else."""
    layers = {name.rpartition(".")[0] for name in wrong}
    same_inputs = all(
        tensors[name].ndim == expected[name].ndim >= 1
        and tensors[name].shape[1:] == expected[name].shape[1:]
        for name in wrong
    )
    return len(layers) == 1 and same_inputs and len(expected) - len(wrong) > 1
