"""Which model of the zoo a checkpoint holds: names and shapes tell.

Every model is built without memory (on the meta device) and compared with the file. Names that the
file, its own name or its folder state only choose between models that fit equally well.
"""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import Size, Tensor

from rkkd_cli.errors import UserError, printable, unknown_name
from rkkd_cli.models import MODELS, build_model
from rkkd_cli.models.checkpoint import COUNTER, fitting
from rkkd_cli.models.checkpoint_layout import Tensors, Weights, bare, views
from rkkd_cli.models.checkpoint_names import model_words, named_among

# Two counts of each kind that no width of a network is likely to be: the dimensions in which the
# model of one differs from that of the other are those of the count.
CLASSES, CHANNELS = (11, 13), (3, 5)
MOST = 1_000_000

Expected = Mapping[str, Tensor]


class Recognised(NamedTuple):
    """A model of the zoo with the weights of a file under its own names."""

    model: str
    classes: int
    channels: int
    state: Tensors
    taken_off: str


def recognise(weights: Weights, model: str | None = None, classes: int | None = None) -> Recognised:
    """Return the model of the zoo that the weights are of; ``model`` says which one.

    Raises UserError for a name that the zoo lacks, where no model fits or several do, and where
    ``model`` does not fit. ``classes`` is what a refusal compares with.
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
    raise _no_fit(weights, model, classes)


def _fit(weights: Weights, name: str) -> Recognised | None:
    """Return the weights as those of the model, if they are that."""
    reference = _built(name, CLASSES[0], CHANNELS[0])
    target = bare(reference)
    names = {n for n in target.tensors if not n.endswith(COUNTER)}
    for view in views(weights.tensors):
        if {n for n in view.tensors if not n.endswith(COUNTER)} != names:
            continue
        own = {target.taken_off + n: tensor for n, tensor in view.tensors.items()}
        classes = _count(own, reference, _varied(name, CLASSES[1], CHANNELS[0]), CLASSES[0])
        channels = _count(own, reference, _varied(name, CLASSES[0], CHANNELS[1]), CHANNELS[0])
        if classes is None:
            continue
        try:
            expected = _built(name, classes, channels or CHANNELS[0])
            state = fitting(weights, expected)
        except ValueError:  # another shape, or a count that the model cannot have
            continue
        return Recognised(name, classes, channels or CHANNELS[0], state, view.taken_off)
    return None


def _no_fit(weights: Weights, model: str | None, classes: int | None) -> UserError:
    if model is not None:
        try:
            fitting(weights, _built(model, classes or CLASSES[0], CHANNELS[0]))
        except UserError as error:
            return error
        return UserError(f"checkpoint {weights.path} does not fit {model}")
    near, differing, total = _nearest(weights)
    words = [word for word in model_words(weights.path, weights.words) if word]
    stated = f"; it states {printable(words[0])!r}" if weights.words else ""
    return UserError(
        f"checkpoint {weights.path} fits no model of the zoo{stated}; the nearest is {near}, from "
        f"which {differing} of {total} parameters differ (--model {near} says how; `rkkd ls "
        "models` lists all)"
    )


def _nearest(weights: Weights) -> tuple[str, int, int]:
    """Return the model with the fewest parameters of another name or shape, and how many."""

    def distance(name: str) -> tuple[int, int]:
        target = bare(_built(name, CLASSES[0], CHANNELS[0])).tensors
        best = min(
            len(target.keys() | view.tensors.keys())
            - sum(t.shape == view.tensors[n].shape for n, t in target.items() if n in view.tensors)
            for view in views(weights.tensors)
        )
        return best, len(target)

    near = min(MODELS, key=distance)
    return near, *distance(near)


@cache
def _built(name: str, classes: int, channels: int) -> Expected:
    """Return the model's state dict on the meta device. Raises ValueError as build_model does."""
    try:
        with torch.device("meta"):
            return build_model(name, classes, channels).state_dict()
    except (NotImplementedError, RuntimeError):  # it looks at its own numbers while it is built
        return {
            n: t.to("meta") for n, t in build_model(name, classes, channels).state_dict().items()
        }


def _varied(name: str, classes: int, channels: int) -> Expected | None:
    """Return the model for other counts, or None where it cannot have them."""
    try:
        return _built(name, classes, channels)
    except ValueError:
        return None


def _count(own: Tensors, reference: Expected, varied: Expected | None, counted: int) -> int | None:
    """Return the count that the file's tensors have where two models of other counts differ."""
    for name, tensor in reference.items():
        other = varied[name].shape if varied and name in varied else tensor.shape
        place = _place(tensor.shape, other, counted)
        if place is not None and name in own and own[name].ndim == tensor.ndim:
            found = int(own[name].shape[place])
            return found if 1 <= found <= MOST else None
    return None


def _place(one: Size, other: Size, counted: int) -> int | None:
    places = [i for i, sizes in enumerate(zip(one, other, strict=False)) if sizes[0] != sizes[1]]
    return places[0] if len(places) == 1 and one[places[0]] == counted else None
