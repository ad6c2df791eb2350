"""Which model of the zoo a checkpoint holds: names and shapes tell.

Every model is built without memory (on the meta device) and compared with the file. Names that the
file, its own name or its folder state only choose between models that fit equally well.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor
from torch.overrides import TorchFunctionMode

from rkkd_cli.errors import LONGEST_SHOWN, UserError, unknown_name
from rkkd_cli.models import MODELS, build_model
from rkkd_cli.models.checkpoint import COUNTER, fitting
from rkkd_cli.models.checkpoint_layout import Tensors, View, Weights, bare, views
from rkkd_cli.models.checkpoint_names import model_words, named_among

# Classes and channels, twice: the dimension in which the models of two counts differ is where a
# file tells its own.
REFERENCE, OTHER = (11, 3), (13, 5)
MOST = 1_000_000

Expected = Mapping[str, Tensor]


class Recognised(NamedTuple):
    """A model of the zoo with the weights of a file under its own names."""

    model: str
    classes: int
    channels: int
    state: Tensors
    taken_off: str


def recognise(weights: Weights, model: str | None = None) -> Recognised:
    """Return the model of the zoo that the weights are of; ``model`` says which one.

    Raises UserError for a name that the zoo lacks, where no model fits or several do, and where
    ``model`` does not fit.
    """
    if model is not None and model not in MODELS:
        raise unknown_name("model", model, MODELS)
    found = [
        fit for name in ([model] if model else MODELS) if (fit := _fit(weights, name)) is not None
    ]
    if len(found) > 1:
        names = [fit.model for fit in found]
        chosen = named_among(model_words(weights.path, weights.words), names)
        found = [fit for fit in found if fit.model == chosen]
        if not found:
            raise UserError(
                f"checkpoint {weights.path} fits {', '.join(names)} alike; say which with --model"
            )
    if found:
        return found[0]
    raise _no_fit(weights, model)


def _fit(weights: Weights, name: str) -> Recognised | None:
    """Return the weights as those of the model, if they are that."""
    names = _without_counters(bare(_built(name, *REFERENCE)).tensors)
    for view in views(weights.tensors):
        if _without_counters(view.tensors) != names:
            continue
        classes, channels = _counts(name, view)
        try:
            state = fitting(weights, _built(name, classes, channels))
        except ValueError:  # another shape, or a count that the model cannot have
            continue
        return Recognised(name, classes, channels, state, view.taken_off)
    return None


def _without_counters(tensors: Expected) -> set[str]:
    return {name for name in tensors if not name.endswith(COUNTER)}


def _no_fit(weights: Weights, model: str | None) -> UserError:
    if model is not None:
        closest = min(views(weights.tensors), key=lambda view: _distance(model, view))
        try:
            fitting(weights, _built(model, *_counts(model, closest)))
        except UserError as error:
            return error
        return UserError(f"checkpoint {weights.path} does not fit {model}")
    differing, near = min(
        (_distance(name, view), name) for name in MODELS for view in views(weights.tensors)
    )
    stated = f"; it states {weights.words[0][:LONGEST_SHOWN]!r}" if weights.words else ""
    return UserError(
        f"checkpoint {weights.path} fits no model of the zoo{stated}; the nearest is {near}, from "
        f"which {differing} of {len(weights.tensors)} tensors differ (--model {near} says how; "
        "`rkkd ls models` lists all)"
    )


def _distance(name: str, view: View) -> int:
    """Return how many tensors the model and the view do not have alike."""
    target = bare(_built(name, *_counts(name, view))).tensors
    both = target.keys() & view.tensors.keys()
    alike = sum(target[key].shape == view.tensors[key].shape for key in both)
    return len(target.keys() | view.tensors.keys()) - alike


class Unfilled(TorchFunctionMode):
    """Leaves out the drawing of first weights.

    On the meta device it would draw nothing, but load PyTorch's compiler for that: a second.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function unless it draws numbers; those give back their tensor."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init" or func in DRAWING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


DRAWING = (Tensor.normal_, Tensor.uniform_)


@cache
def _built(name: str, classes: int, channels: int) -> Expected:
    """Return the model's state dict on the meta device. Raises ValueError as build_model does."""
    try:
        with torch.device("meta"), Unfilled():
            return build_model(name, classes, channels).state_dict()
    except (NotImplementedError, RuntimeError):  # it looks at its own numbers while it is built
        with Unfilled():
            state = build_model(name, classes, channels).state_dict()
        return {key: tensor.to("meta") for key, tensor in state.items()}


def _counts(name: str, view: View) -> tuple[int, int]:
    """Return the classes and channels by which the view's tensors would be the model's.

    Where nothing tells them they are those of the reference.
    """
    reference = _built(name, *REFERENCE)
    start = len(bare(reference).taken_off)
    counts = []
    for other in ((OTHER[0], REFERENCE[1]), (REFERENCE[0], OTHER[1])):
        try:
            varied = _built(name, *other)
        except ValueError:  # the model cannot have that count
            varied = reference
        places = (
            (key[start:], _place(tensor.shape, varied[key].shape))
            for key, tensor in reference.items()
            if key in varied
        )
        found = (
            int(view.tensors[key].shape[place])
            for key, place in places
            if place is not None and key in view.tensors and view.tensors[key].ndim > place
        )
        counts.append(next(found, 0))
    classes, channels = (
        count if 1 <= count <= MOST else usual
        for count, usual in zip(counts, REFERENCE, strict=True)
    )
    return classes, channels


def _place(one: Size, other: Size) -> int | None:
    """Return the one dimension in which two shapes differ as the reference counts do."""
    pairs = list(enumerate(zip(one, other, strict=False)))
    places = [i for i, sizes in pairs if sizes[0] != sizes[1]]
    return places[0] if len(places) == 1 and one[places[0]] in REFERENCE else None
