"""Which model a checkpoint holds: names and shapes tell.

Every model of the zoo is built without memory (on the meta device) and compared with the file.
Names that the file, its own name or its folder state only choose between models that fit equally
well. Of the libraries' models those are compared that such words name.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from rkkd_cli.errors import LONGEST_SHOWN, UserError
from rkkd_cli.models.catalogue import LIBRARIES, MODELS, build_model, check_model_name
from rkkd_cli.models.checkpoint.layout import Tensors, View, Weights, bare, views
from rkkd_cli.models.checkpoint.library_names import library_candidates
from rkkd_cli.models.checkpoint.load import COUNTER, fitting, load_fitted
from rkkd_cli.models.checkpoint.names import model_words, named_among
from rkkd_cli.models.checkpoint.skeleton import (
    REFERENCE,
    Expected,
    ImageSize,
    Unfilled,
    blank,
    counts,
    depends_on_size,
    sizes,
)
from rkkd_cli.models.checkpoint.upgrade import in_todays_form

# Of the images on which two models' outputs are compared: large enough for every convolutional one.
COMPARED_SIDE = 128


class Images(NamedTuple):
    """What a model is wanted for: classes, channels, and (height, width)."""

    classes: int
    channels: int
    size: tuple[int, int]


class Recognised(NamedTuple):
    """A model with the weights of a file under its own names.

    ``size`` is that of the images where it is not the model's own and changes shapes; ``also`` are
    models of another library that fit as well and give equal outputs.
    """

    model: str
    classes: int
    channels: int
    state: Tensors
    taken_off: str
    left_out: tuple[str, ...] = ()
    size: ImageSize = None
    also: tuple[str, ...] = ()


def recognise(
    weights: Weights, model: str | None = None, images: Images | None = None
) -> Recognised:
    """Return the model that the weights are of; ``model`` says which one.

    Without it the zoo comes first, then the libraries' models that the file's words name.
    ``images`` are those that the model is wanted for: tried first of all counts and sizes.

    Raises UserError for an unknown name, where no model fits or several do, and where ``model``
    does not fit.
    """
    if model is not None:
        return _as_said(weights, model, images)
    found = [fit for name in MODELS if (fit := _fit(weights, name)) is not None]
    if len(found) > 1:
        names = [fit.model for fit in found]
        chosen = named_among(model_words(weights.path, weights.words), names)
        found = [fit for fit in found if fit.model == chosen]
        if not found:
            raise _several(weights, names)
    return found[0] if found else _of_a_library(weights, images)


def trained_size(found: Recognised) -> ImageSize:
    """Return the size of the images whose positions the weights hold, if it can be told."""
    if found.size is not None or not depends_on_size(found.model):
        return found.size
    counted = (found.model, found.classes, found.channels)
    for size in sizes(found.model, None):
        try:
            fits = size is not None and same_shapes(blank(*counted, size), found.state)
        except ValueError:  # not a size for this model
            continue
        if fits:
            return size
    return None


def same_shapes(one: Expected, other: Expected) -> bool:
    """Tell whether two state dicts have the same names and shapes."""
    return one.keys() == other.keys() and all(one[k].shape == other[k].shape for k in one)


def _as_said(weights: Weights, model: str, images: Images | None) -> Recognised:
    check_model_name(model)
    if model not in MODELS and model.partition(":")[0] not in LIBRARIES and images is not None:
        # A user's own model may be made for these counts alone.
        fitted = fitting(weights, blank(model, *images))
        return Recognised(model, images.classes, images.channels, *fitted)
    fit = _fit(weights, model, images)
    if fit is None:
        raise _misfit(weights, model)
    return fit


def _of_a_library(weights: Weights, images: Images | None) -> Recognised:
    """Return the library's model that fits, by the first word that names such."""
    tried: list[str] = []
    for names in library_candidates(weights):
        found: dict[str, Recognised] = {}
        for name in names:  # of one library the longest name counts
            library = name.partition(":")[0]
            fit = None if library in found else _fit(weights, name, images)
            if fit is not None:
                found[library] = fit
        if found:
            return _chosen(weights, list(found.values()))
        tried += names
    raise _no_fit(weights, list(dict.fromkeys(tried)))


def _chosen(weights: Weights, found: Sequence[Recognised]) -> Recognised:
    """Return the likeliest of models that fit. Raises UserError where their outputs differ."""
    first, names = found[0], tuple(fit.model for fit in found)
    if len(found) > 1 and not _equal_outputs(found):
        raise _several(weights, names)
    return first._replace(also=names[1:])


def _equal_outputs(found: Sequence[Recognised]) -> bool:
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(2, found[0].channels, COMPARED_SIDE, COMPARED_SIDE, generator=draws)
    outputs = []
    for fit in found:
        with torch.random.fork_rng(devices=[]), Unfilled():
            model = build_model(fit.model, fit.classes, fit.channels, fit.size)
        load_fitted(model, fit.state)
        try:
            with torch.no_grad():
                outputs.append(model.float().eval()(images))
        except RuntimeError:  # no such images
            return False
    spread = float(outputs[0].abs().max())
    return all(float((one - outputs[0]).abs().max()) <= 1e-4 * spread for one in outputs[1:])


def _fit(weights: Weights, name: str, images: Images | None = None) -> Recognised | None:
    """Return the weights as those of the model, if they are that."""
    names = _without_counters(bare(blank(name, *REFERENCE)).tensors)
    for view in _views(weights, name):
        if _without_counters(view.tensors) != names:
            continue
        classes, channels = counts(name, view)
        for size in sizes(name, images.size if images else None):
            try:
                fitted = fitting(weights, blank(name, classes, channels, size))
            except ValueError:  # another shape, or a count that the model cannot have
                continue
            return Recognised(name, classes, channels, *fitted, size)
    return None


def _views(weights: Weights, name: str) -> Iterator[View]:
    """Yield the networks that the file may hold, under the model's names."""
    expected = bare(blank(name, *REFERENCE)).tensors
    for view in views(weights.tensors):
        yield view._replace(tensors=in_todays_form(view.tensors, expected)[0])


def _without_counters(tensors: Expected) -> set[str]:
    return {name for name in tensors if not name.endswith(COUNTER)}


def _several(weights: Weights, names: Sequence[str]) -> UserError:
    return UserError(
        f"checkpoint {weights.path} fits {', '.join(names)} alike; say which with --model"
    )


def _misfit(weights: Weights, model: str) -> UserError:
    closest = min(_views(weights, model), key=lambda view: _distance(model, view))
    try:
        fitting(weights, blank(model, *counts(model, closest)))
    except UserError as error:
        return error
    return UserError(f"checkpoint {weights.path} does not fit {model}")


def _no_fit(weights: Weights, tried: Sequence[str]) -> UserError:
    stated = f"; it states {weights.words[0][:LONGEST_SHOWN]!r}" if weights.words else ""
    beginning = f"checkpoint {weights.path} fits no model of the zoo"
    listing = "`rkkd ls models torchvision|timm` lists the libraries'"
    if tried:
        return UserError(
            f"{beginning}, nor {', '.join(tried)}, by which it is called{stated}; "
            f"--model {tried[0]} says how it differs ({listing})"
        )
    differing, near = min(
        (_distance(name, view), name) for name in MODELS for view in views(weights.tensors)
    )
    return UserError(
        f"{beginning}{stated}; the nearest is {near}, from which {differing} of "
        f"{len(weights.tensors)} tensors differ (--model {near} says how), and nothing names a "
        "model of a library: --model torchvision:NAME, timm:NAME or package.module:name does "
        f"({listing})"
    )


def _distance(name: str, view: View) -> int:
    """Return how many tensors the model and the view do not have alike."""
    target = bare(blank(name, *counts(name, view))).tensors
    both = target.keys() & view.tensors.keys()
    alike = sum(target[key].shape == view.tensors[key].shape for key in both)
    return len(target.keys() | view.tensors.keys()) - alike
