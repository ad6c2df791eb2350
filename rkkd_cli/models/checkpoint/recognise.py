"""Finds the model that a checkpoint holds, by keys and shapes.

Models are built on the meta device and compared with the file: all of the zoo, that of torchvision
or timm which the file states, then those of torchvision whose weights have such names. Timm has
some 1,300 models, so which of them a file holds is not searched for.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from torch import Tensor

from rkkd_cli.errors import MAX_SHOWN_LENGTH, UserError
from rkkd_cli.models.catalogue import LIBRARIES, MODELS, check_model_name
from rkkd_cli.models.checkpoint.layout import (
    CheckpointWeights,
    StateDictView,
    Tensors,
    candidate_views,
    strip_prefix,
)
from rkkd_cli.models.checkpoint.load import BATCH_COUNTER, fit_weights
from rkkd_cli.models.checkpoint.skeleton import (
    SIDES,
    ImageSize,
    candidate_sizes,
    depends_on_size,
    infer_counts,
    meta_state_dict,
    reference_state_dict,
)
from rkkd_cli.models.checkpoint.upgrade import upgrade_keys
from rkkd_cli.models.external.options import NO_OPTIONS
from rkkd_cli.models.external.torchvision_models import names_by_weights


class ImageSpec(NamedTuple):
    """The images that a model has to take: number of classes, channels, (height, width)."""

    classes: int
    channels: int
    size: tuple[int, int]


class RecognisedModel(NamedTuple):
    """A model, with a file's weights under its own keys.

    ``stripped_prefix`` is the prefix of the file's keys, ``dropped_heads`` are auxiliary heads that
    the model does not have, ``ignored`` are further entries that it does not have. ``size`` is the
    image size, if it changes shapes and is not the model's default. ``options`` are those with
    which the model is built.
    """

    model: str
    classes: int
    channels: int
    state: Tensors
    stripped_prefix: str
    dropped_heads: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    size: ImageSize = None
    options: Mapping[str, Any] = NO_OPTIONS


def recognise(
    weights: CheckpointWeights,
    model: str | None = None,
    images: ImageSpec | None = None,
    flag: str = "--model",
    options: Mapping[str, Any] = NO_OPTIONS,
) -> RecognisedModel:
    """Return the model that the weights belong to.

    Without the name ``model``, it is one of the zoo or of torchvision, or a library's that the file
    states. ``images`` are those that the model has to take; their size is tried too. ``flag`` is
    the one that names a model, for the messages. With ``options`` both name and images are needed.

    Raises UserError if the name is unknown, ``model`` does not fit, or no model or several fit.
    """
    if model is not None:
        return _fit_named_model(weights, model, images, options)
    for names in (MODELS, *map(_library_models, weights.stated_names)):
        fits = [fit for name in names if (fit := _fit_model(weights, name, images)) is not None]
        fewest = min((len(fit.ignored) for fit in fits), default=0)
        fits = [fit for fit in fits if len(fit.ignored) == fewest]
        if len(fits) > 1:
            alike = ", ".join(fit.model for fit in fits)
            raise UserError(f"checkpoint {weights.path} fits {alike} alike; say which with {flag}")
        if fits:
            return fits[0]
    fit = _fit_torchvision(weights, images)
    if fit is not None:
        return fit
    surplus_error = None if weights.ignore_unexpected else _surplus_error(weights, images)
    raise surplus_error or _unknown_model(weights, flag)


def _fit_torchvision(
    weights: CheckpointWeights, images: ImageSpec | None
) -> RecognisedModel | None:
    """Return the first model of torchvision that has the file's tensors and no others, if any."""
    if weights.ignore_unexpected:
        return None
    names = names_by_weights(weights.tensors)
    fits = (_fit_model(weights, f"torchvision:{name}", images) for name in names)
    return next((fit for fit in fits if fit is not None), None)


def _unknown_model(weights: CheckpointWeights, flag: str) -> UserError:
    """Return the error for a file that fits no model that is searched for; it says what it has."""
    tensors, stated = weights.tensors, weights.stated_names
    states = f" (it states {stated[0][:MAX_SHOWN_LENGTH]!r})" if stated else ""
    numbers = sum(tensor.numel() for tensor in tensors.values())
    names, alike = list(tensors), names_by_weights(tensors)
    first, last = (f"{n[:MAX_SHOWN_LENGTH]} {_shape(tensors[n])}" for n in (names[0], names[-1]))
    like = f", named as in torchvision's {alike[0]}" if alike else ""
    return UserError(
        f"checkpoint {weights.path} fits no model of the zoo or of torchvision{states}: it has "
        f"{len(tensors):,} tensors of {numbers:,} numbers, from {first} to {last}{like}; say which "
        f"model it is with {flag}, such as {flag} timm:NAME (`rkkd ls models timm`) or, for your "
        f"own, {flag} mynet.py:MyNet"
    )


def _shape(tensor: Tensor) -> str:
    return f"({'×'.join(map(str, tensor.shape))})"


def _surplus_error(weights: CheckpointWeights, images: ImageSpec | None) -> UserError | None:
    """Return the error for a file that has all tensors of a model, and more."""
    try:
        model = recognise(weights._replace(ignore_unexpected=True), None, images)
    except UserError:
        return None
    return UserError(
        f"checkpoint {weights.path} is a {model.model} with {len(model.ignored)} tensors more, "
        f"such as {', '.join(model.ignored[:2])}; if they are no weights, "
        "`rkkd teacher import FILE --ignore-unexpected` leaves them out"
    )


def _library_models(stated: str) -> list[str]:
    """Return the libraries' models of a name, which may be ``library:NAME``.

    A file may state anything, and the user's own code is not imported because a file says so.
    """
    names = (stated, *(f"{library}:{stated}" for library in LIBRARIES))
    known = []
    for name in names:
        with suppress(UserError):
            library, _, rest = name.partition(":")
            if library in LIBRARIES and ":" not in rest:  # hf-hub: would download
                check_model_name(name)
                known.append(name)
    return known


def trained_size(recognised: RecognisedModel) -> ImageSize:
    """Return the image size of the positional embeddings in the weights, if it can be told."""
    name = recognised.model
    if recognised.size is not None or not depends_on_size(name):
        return recognised.size
    for side in SIDES:
        with suppress(ValueError):  # not a size for this model
            size = (side, side)
            counts = recognised.classes, recognised.channels
            expected = meta_state_dict(name, *counts, size, tuple(recognised.options.items()))
            if same_shapes(expected, recognised.state):
                return size
    return None


def same_shapes(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Return whether two state dicts have the same keys and shapes."""
    return a.keys() == b.keys() and all(a[key].shape == b[key].shape for key in a)


def _fit_named_model(
    weights: CheckpointWeights, model: str, images: ImageSpec | None, options: Mapping[str, Any]
) -> RecognisedModel:
    check_model_name(model, options)
    is_own = model not in MODELS and model.partition(":")[0] not in LIBRARIES
    if (is_own or options) and images is not None:
        return _fit_to_images(weights, model, images, options)
    fit = _fit_model(weights, model, images)
    if fit is None:
        raise _misfit_error(weights, model)
    return fit


def _fit_to_images(
    weights: CheckpointWeights, name: str, images: ImageSpec, options: Mapping[str, Any]
) -> RecognisedModel:
    """Return the weights as those of a model that may be written for these counts only.

    Of a library's model they may belong to images of another size.
    """
    items = tuple(options.items())
    other_sizes = [(side, side) for side in SIDES] if depends_on_size(name) else []
    misfits: list[ValueError] = []
    for size in (images.size, *other_sizes):
        try:
            expected = meta_state_dict(name, images.classes, images.channels, size, items)
            fitted = fit_weights(weights, expected)
        except ValueError as error:  # also a size that the model cannot have
            misfits.append(error)
            continue
        trained = None if size == images.size else size
        recognised = RecognisedModel(name, images.classes, images.channels, *fitted[:4], trained)
        return recognised._replace(options=options)
    raise misfits[0]


def _fit_model(
    weights: CheckpointWeights, name: str, images: ImageSpec | None
) -> RecognisedModel | None:
    """Return the weights under the model's keys, or None if they do not fit."""
    keys = _without_counters(strip_prefix(reference_state_dict(name)).tensors)
    for view in _upgraded_views(weights, name):
        in_file = _without_counters(view.tensors)
        if not (keys <= in_file if weights.ignore_unexpected else keys == in_file):
            continue
        classes, channels = infer_counts(name, view)
        for size in candidate_sizes(name, images.size if images else None):
            with suppress(ValueError):  # another shape, or a count that the model cannot have
                fitted = fit_weights(weights, meta_state_dict(name, classes, channels, size))
                return RecognisedModel(name, classes, channels, *fitted[:4], size)
    return None


def _upgraded_views(weights: CheckpointWeights, name: str) -> Iterator[StateDictView]:
    """Yield the networks that the file may hold, under the model's keys of today."""
    expected = strip_prefix(reference_state_dict(name)).tensors
    for view in candidate_views(weights.tensors):
        is_current = name in MODELS  # the zoo has renamed nothing
        yield view if is_current else view._replace(tensors=upgrade_keys(view.tensors, expected)[0])


def _without_counters(tensors: Mapping[str, Tensor]) -> set[str]:
    return {key for key in tensors if not key.endswith(BATCH_COUNTER)}


def _misfit_error(weights: CheckpointWeights, model: str) -> UserError:
    views = _upgraded_views(weights, model)
    closest = min(views, key=lambda view: _count_differences(model, view))
    classes, channels = infer_counts(model, closest)
    try:
        fit_weights(weights, meta_state_dict(model, classes, channels))
    except UserError as error:
        return error
    return UserError(f"checkpoint {weights.path} does not fit {model}")


def _count_differences(name: str, view: StateDictView) -> int:
    """Return how many keys only one of model and view has, or both with different shapes."""
    classes, channels = infer_counts(name, view)
    expected = strip_prefix(meta_state_dict(name, classes, channels)).tensors
    shared = expected.keys() & view.tensors.keys()
    equal = sum(expected[key].shape == view.tensors[key].shape for key in shared)
    return len(expected.keys() | view.tensors.keys()) - equal
