"""Models without numbers: the names and shapes by which a file is told to be one of them."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.overrides import TorchFunctionMode

from rkkd_cli.models.catalogue import LIBRARIES, build_model
from rkkd_cli.models.checkpoint.layout import View, bare
from rkkd_cli.models.external.timm_models import timm_network
from rkkd_cli.models.external.torchvision_models import torchvision_network

# Classes and channels, twice: the dimension in which the models of two counts differ is where a
# file tells its own.
REFERENCE, OTHER = (11, 3), (13, 5)
MOST = 1_000_000

# Sides of images at which classifiers are trained, the usual ones first. Between the models of
# the first ones it shows whether the size changes a shape.
SIDES = (224, 384, 256, 32, 64, 448, 128, 96, 48, 112, 160, 176, 192, 240, 288, 320, 336, 512, 518)
ENOUGH = 3

NETWORKS = {"torchvision": torchvision_network, "timm": timm_network}

Expected = Mapping[str, Tensor]
ImageSize = tuple[int, int] | None


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
def blank(name: str, classes: int, channels: int, size: ImageSize = None) -> Expected:
    """Return the model's state dict on the meta device. Raises ValueError as build_model does.

    ``size`` (height, width) is that of the images; without it the model has its own.
    """
    with torch.random.fork_rng(devices=[]), Unfilled():
        try:
            with torch.device("meta"):
                return _network(name, classes, channels, size).state_dict()
        except (NotImplementedError, RuntimeError):  # it looks at its own numbers
            state = _network(name, classes, channels, size).state_dict()
            return {key: tensor.to("meta") for key, tensor in state.items()}


def _network(name: str, classes: int, channels: int, size: ImageSize) -> nn.Module:
    """Return the model, or the module in it: a library's features take trial runs to find."""
    source, _, rest = name.partition(":")
    build = NETWORKS.get(source)
    if build is None:
        return build_model(name, classes, channels, size)
    return build(rest, classes, channels, size)


def counts(name: str, view: View) -> tuple[int, int]:
    """Return the classes and channels by which the view's tensors would be the model's.

    Where nothing tells them they are those of the reference.
    """
    reference = blank(name, *REFERENCE)
    start = len(bare(reference).taken_off)
    told = []
    for other in ((OTHER[0], REFERENCE[1]), (REFERENCE[0], OTHER[1])):
        try:
            varied = blank(name, *other)
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
        told.append(next(found, 0))
    classes, channels = (
        count if 1 <= count <= MOST else usual for count, usual in zip(told, REFERENCE, strict=True)
    )
    return classes, channels


def _place(one: Size, other: Size) -> int | None:
    """Return the one dimension in which two shapes differ as the reference counts do."""
    pairs = list(enumerate(zip(one, other, strict=False)))
    places = [i for i, sizes in pairs if sizes[0] != sizes[1]]
    return places[0] if len(places) == 1 and one[places[0]] in REFERENCE else None


def sizes(name: str, known: ImageSize) -> Iterator[ImageSize]:
    """Yield the sizes of images at which the model may have been trained.

    First None, the model's own one: the only one where the size changes no shape. ``known`` is
    another one worth a try.
    """
    yield None
    if depends_on_size(name):
        yield from (known,) if known else ()
        yield from ((side, side) for side in SIDES)


@cache
def depends_on_size(name: str) -> bool:
    """Tell whether the model's shapes depend on the size of the images (positional embeddings)."""
    if name.partition(":")[0] not in LIBRARIES:
        return False
    seen: list[dict[str, Size]] = []
    for side in SIDES:
        try:
            built = blank(name, *REFERENCE, (side, side))
        except ValueError:  # not a size for this model
            continue
        seen.append({key: tensor.shape for key, tensor in built.items()})
        if seen[-1] != seen[0]:
            return True
        if len(seen) == ENOUGH:
            return False
    return False
