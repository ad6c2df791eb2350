"""Finds the model that a checkpoint holds, by keys and shapes.

Models are built on the meta device and compared with the file: all of the zoo, and those of the
libraries that the file, its own name or its folder's mention. In the zoo these names only decide
between models that fit equally well.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.errors import MAX_SHOWN_LENGTH, UserError
from rkkd_cli.models.catalogue import LIBRARIES, MODELS, build_model, check_model_name
from rkkd_cli.models.checkpoint.layout import (
    CheckpointWeights,
    StateDictView,
    Tensors,
    candidate_views,
    strip_prefix,
)
from rkkd_cli.models.checkpoint.library_names import library_candidates
from rkkd_cli.models.checkpoint.load import BATCH_COUNTER, fit_weights, load_fitted
from rkkd_cli.models.checkpoint.names import first_named, name_hints
from rkkd_cli.models.checkpoint.skeleton import (
    SIDES,
    ImageSize,
    SkipInit,
    candidate_sizes,
    depends_on_size,
    infer_counts,
    meta_state_dict,
    reference_state_dict,
)
from rkkd_cli.models.checkpoint.upgrade import upgrade_keys

# Side of the images on which two models' outputs are compared; every convolutional one takes it.
COMPARED_SIDE = 128


class ImageSpec(NamedTuple):
    """The images that a model has to take: number of classes, channels, (height, width)."""

    classes: int
    channels: int
    size: tuple[int, int]


class RecognisedModel(NamedTuple):
    """A model, with a file's weights under its own keys.

    ``stripped_prefix`` is the prefix of the file's keys, ``dropped_heads`` are auxiliary heads that
    the model does not have. ``size`` is the image size, if it changes shapes and is not the model's
    default. ``equivalents`` are models of other libraries that fit as well, with equal outputs.
    """

    model: str
    classes: int
    channels: int
    state: Tensors
    stripped_prefix: str
    dropped_heads: tuple[str, ...] = ()
    size: ImageSize = None
    equivalents: tuple[str, ...] = ()


def recognise(
    weights: CheckpointWeights, model: str | None = None, images: ImageSpec | None = None
) -> RecognisedModel:
    """Return the model that the weights belong to.

    Without the name ``model``, the zoo is searched first, then the libraries' models that the
    file's hints name. ``images`` are those that the model has to take; their size is tried too.

    Raises UserError if the name is unknown, ``model`` does not fit, or no model or several fit.
    """
    if model is not None:
        return _fit_named_model(weights, model, images)
    fits = [fit for name in MODELS if (fit := _fit_model(weights, name)) is not None]
    if len(fits) > 1:
        names = [fit.model for fit in fits]
        chosen = first_named(name_hints(weights.path, weights.hints), names)
        fits = [fit for fit in fits if fit.model == chosen]
        if not fits:
            raise _several_fit_error(weights, names)
    return fits[0] if fits else _find_library_model(weights, images)


def trained_size(recognised: RecognisedModel) -> ImageSize:
    """Return the image size of the positional embeddings in the weights, if it can be told."""
    name = recognised.model
    if recognised.size is not None or not depends_on_size(name):
        return recognised.size
    for side in SIDES:
        with suppress(ValueError):  # not a size for this model
            size = (side, side)
            expected = meta_state_dict(name, recognised.classes, recognised.channels, size)
            if same_shapes(expected, recognised.state):
                return size
    return None


def same_shapes(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Return whether two state dicts have the same keys and shapes."""
    return a.keys() == b.keys() and all(a[key].shape == b[key].shape for key in a)


def _fit_named_model(
    weights: CheckpointWeights, model: str, images: ImageSpec | None
) -> RecognisedModel:
    check_model_name(model)
    if model not in MODELS and model.partition(":")[0] not in LIBRARIES and images is not None:
        # A user's own model may be written for these counts only.
        expected = meta_state_dict(model, images.classes, images.channels, images.size)
        fitted = fit_weights(weights, expected)
        return RecognisedModel(model, images.classes, images.channels, *fitted)
    fit = _fit_model(weights, model, images)
    if fit is None:
        raise _misfit_error(weights, model)
    return fit


def _find_library_model(weights: CheckpointWeights, images: ImageSpec | None) -> RecognisedModel:
    """Return the library's model that fits, from the first hint that names a fitting one.

    Raises UserError if none fits, or if several fit whose outputs differ.
    """
    tried: list[str] = []
    for names in library_candidates(weights):
        fits: dict[str, RecognisedModel] = {}
        for name in names:  # for each library the longest name that fits
            library = name.partition(":")[0]
            if library not in fits and (fit := _fit_model(weights, name, images)) is not None:
                fits[library] = fit
        if len(fits) > 1 and not _equal_outputs(list(fits.values())):
            raise _several_fit_error(weights, [fit.model for fit in fits.values()])
        if fits:
            likeliest, *others = fits.values()
            return likeliest._replace(equivalents=tuple(fit.model for fit in others))
        tried += names
    raise _no_fit_error(weights, list(dict.fromkeys(tried)))


def _equal_outputs(fits: Sequence[RecognisedModel]) -> bool:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, fits[0].channels, COMPARED_SIDE, COMPARED_SIDE, generator=generator)
    outputs = []
    for fit in fits:
        with torch.random.fork_rng(devices=[]), SkipInit():
            model = build_model(fit.model, fit.classes, fit.channels, fit.size)
        load_fitted(model, fit.state)
        try:
            with torch.no_grad():
                outputs.append(model.float().eval()(images))
        except RuntimeError:  # it takes no such images
            return False
    tolerance = 1e-4 * float(outputs[0].abs().max())
    return all(float((output - outputs[0]).abs().max()) <= tolerance for output in outputs[1:])


def _fit_model(
    weights: CheckpointWeights, name: str, images: ImageSpec | None = None
) -> RecognisedModel | None:
    """Return the weights under the model's keys, or None if they do not fit."""
    keys = _without_counters(strip_prefix(reference_state_dict(name)).tensors)
    for view in _upgraded_views(weights, name):
        if _without_counters(view.tensors) != keys:
            continue
        classes, channels = infer_counts(name, view)
        for size in candidate_sizes(name, images.size if images else None):
            with suppress(ValueError):  # another shape, or a count that the model cannot have
                fitted = fit_weights(weights, meta_state_dict(name, classes, channels, size))
                return RecognisedModel(name, classes, channels, *fitted, size)
    return None


def _upgraded_views(weights: CheckpointWeights, name: str) -> Iterator[StateDictView]:
    """Yield the networks that the file may hold, under the model's keys of today."""
    expected = strip_prefix(reference_state_dict(name)).tensors
    for view in candidate_views(weights.tensors):
        yield view._replace(tensors=upgrade_keys(view.tensors, expected)[0])


def _without_counters(tensors: Mapping[str, Tensor]) -> set[str]:
    return {key for key in tensors if not key.endswith(BATCH_COUNTER)}


def _several_fit_error(weights: CheckpointWeights, names: Sequence[str]) -> UserError:
    return UserError(
        f"checkpoint {weights.path} fits {', '.join(names)} alike; say which with --model"
    )


def _misfit_error(weights: CheckpointWeights, model: str) -> UserError:
    views = _upgraded_views(weights, model)
    closest = min(views, key=lambda view: _count_differences(model, view))
    classes, channels = infer_counts(model, closest)
    try:
        fit_weights(weights, meta_state_dict(model, classes, channels))
    except UserError as error:
        return error
    return UserError(f"checkpoint {weights.path} does not fit {model}")


def _no_fit_error(weights: CheckpointWeights, tried: Sequence[str]) -> UserError:
    stated = f"; it states {weights.hints[0][:MAX_SHOWN_LENGTH]!r}" if weights.hints else ""
    beginning = f"checkpoint {weights.path} fits no model of the zoo"
    listing = "`rkkd ls models torchvision|timm` lists the libraries'"
    if tried:
        return UserError(
            f"{beginning}, nor {', '.join(tried)}, by which it is called{stated}; "
            f"--model {tried[0]} says how it differs ({listing})"
        )
    differences, nearest = min(
        (_count_differences(name, view), name)
        for name in MODELS
        for view in candidate_views(weights.tensors)
    )
    return UserError(
        f"{beginning}{stated}; the nearest is {nearest}, from which {differences} of "
        f"{len(weights.tensors)} tensors differ (--model {nearest} says how), and nothing names a "
        "model of a library: --model torchvision:NAME, timm:NAME or package.module:name does "
        f"({listing})"
    )


def _count_differences(name: str, view: StateDictView) -> int:
    """Return how many keys only one of model and view has, or both with different shapes."""
    classes, channels = infer_counts(name, view)
    expected = strip_prefix(meta_state_dict(name, classes, channels)).tensors
    shared = expected.keys() & view.tensors.keys()
    equal = sum(expected[key].shape == view.tensors[key].shape for key in shared)
    return len(expected.keys() | view.tensors.keys()) - equal
