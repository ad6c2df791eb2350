"""Models' state dicts without values (meta tensors), to compare checkpoint files with.

Building a model on the meta device gives its keys and shapes but takes no memory.
"""

from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.overrides import TorchFunctionMode

from rkkd_cli.models.catalogue import LIBRARIES, build_model
from rkkd_cli.models.checkpoint.layout import StateDictView, strip_prefix
from rkkd_cli.models.external.adapt import build_on_default_device
from rkkd_cli.models.external.timm_models import timm_network
from rkkd_cli.models.external.torchvision_models import torchvision_network

# Two counts of classes and two of channels. The dimension in which a tensor of the model differs
# between the two is where a file shows its own count.
REFERENCE_CLASSES, OTHER_CLASSES = 11, 13
REFERENCE_CHANNELS, OTHER_CHANNELS = 3, 5
MAX_COUNT = 1_000_000

# Sides of images on which classifiers are trained, the usual ones first.
SIDES = (224, 384, 256, 32, 64, 448, 128, 96, 48, 112, 160, 176, 192, 240, 288, 320, 336, 512, 518)
SIDES_COMPARED = 3  # enough to see whether the image size changes a model's shapes

NETWORKS = {"torchvision": torchvision_network, "timm": timm_network}

ImageSize = tuple[int, int] | None
OptionItems = tuple[tuple[str, Any], ...]


class SkipInit(TorchFunctionMode):
    """Skips the initialisation of weights.

    On the meta device it has no effect, but would load PyTorch's compiler, which takes a second.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, unless it draws numbers: then return its tensor unchanged."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init" or func in DRAWING_METHODS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


DRAWING_METHODS = (Tensor.normal_, Tensor.uniform_)


@cache
def meta_state_dict(
    name: str, classes: int, channels: int, size: ImageSize = None, options: OptionItems = ()
) -> Mapping[str, Tensor]:
    """Return the model's state dict on the meta device. Raises ValueError as build_model does.

    ``size`` is the images' height and width; None means the model's default. ``options`` are pairs
    of names and values.
    """
    with torch.random.fork_rng(devices=[]), SkipInit(), torch.device("meta"):
        build = partial(_build_network, name, classes, channels, size, dict(options))
        return build_on_default_device(build).state_dict()


def reference_state_dict(name: str, size: ImageSize = None) -> Mapping[str, Tensor]:
    """Return the model's state dict on the meta device, for the reference counts."""
    return meta_state_dict(name, REFERENCE_CLASSES, REFERENCE_CHANNELS, size)


def _build_network(
    name: str, classes: int, channels: int, size: ImageSize, options: Mapping[str, Any]
) -> nn.Module:
    """Build the model; of a library only its module, as finding the features takes dry runs."""
    library, _, library_name = name.partition(":")
    if library in NETWORKS and not options:
        return NETWORKS[library](library_name, classes, channels, size)
    return build_model(name, classes, channels, size, options)


def infer_counts(name: str, view: StateDictView) -> tuple[int, int]:
    """Return the classes and channels with which the view's tensors would be the model's.

    A count that no tensor shows is that of the reference.
    """
    classes = _infer_count(name, view, OTHER_CLASSES, REFERENCE_CHANNELS)
    channels = _infer_count(name, view, REFERENCE_CLASSES, OTHER_CHANNELS)
    return classes or REFERENCE_CLASSES, channels or REFERENCE_CHANNELS


def _infer_count(name: str, view: StateDictView, classes: int, channels: int) -> int | None:
    """Return the view's size in the first dimension that changes with these counts."""
    reference = reference_state_dict(name)
    try:
        varied = meta_state_dict(name, classes, channels)
    except ValueError:  # the model cannot have that count
        return None
    prefix = strip_prefix(reference).stripped_prefix
    for key, tensor in reference.items():
        dim = _varied_dim(tensor.shape, varied[key].shape) if key in varied else None
        weight = view.tensors.get(key[len(prefix) :])
        if dim is not None and weight is not None and weight.ndim > dim:
            count = int(weight.shape[dim])
            return count if 1 <= count <= MAX_COUNT else None
    return None


def _varied_dim(reference: Size, varied: Size) -> int | None:
    """Return the one dimension in which two shapes differ, if a reference count stands there."""
    pairs = zip(reference, varied, strict=False)
    dims = [dim for dim, (size, varied_size) in enumerate(pairs) if size != varied_size]
    counts = (REFERENCE_CLASSES, REFERENCE_CHANNELS)
    return dims[0] if len(dims) == 1 and reference[dims[0]] in counts else None


def candidate_sizes(name: str, wanted: ImageSize) -> Iterator[ImageSize]:
    """Yield image sizes on which the model may have been trained.

    The first is None, the model's default; it is the only one if the size changes no shape.
    ``wanted`` is another size to try early.
    """
    yield None
    if depends_on_size(name):
        yield from (wanted,) if wanted else ()
        yield from ((side, side) for side in SIDES)


@cache
def depends_on_size(name: str) -> bool:
    """Return whether the model's shapes depend on the image size (positional embeddings)."""
    if name.partition(":")[0] not in LIBRARIES:
        return False
    shapes: list[dict[str, Size]] = []
    for side in SIDES:
        try:
            state = reference_state_dict(name, (side, side))
        except ValueError:  # not a size for this model
            continue
        shapes.append({key: tensor.shape for key, tensor in state.items()})
        if shapes[-1] != shapes[0]:
            return True
        if len(shapes) == SIDES_COMPARED:
            return False
    return False
