"""The shapes of a model's features, for what is built to fit them (projectors).

They come without computing, from a forward pass on torch's ``meta`` device.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rkkd_cli.models.features import Classifier, Features


class FeatureShapes(NamedTuple):
    """Shapes without the batch: maps and final (D, H, W), pooled the width D.

    ``final`` is None for a model whose classifier reads no feature map.
    """

    maps: tuple[torch.Size, ...]
    pooled: int
    final: torch.Size | None


def feature_shapes(
    model: Classifier, in_channels: int, image_size: tuple[int, int]
) -> FeatureShapes:
    """Return the shapes of the model's features for images of a size, computing next to nothing.

    The model, its mode and the random generators stay as they are. Raises what the model raises
    for images that it cannot take.
    """
    shape = (2, in_channels, *image_size)
    features: Features = dry_run(model, model.forward_features, shape)
    final = None if features.final is None else features.final.shape[1:]
    maps = tuple(one.shape[1:] for one in features.maps)
    return FeatureShapes(maps, features.pooled.shape[1], final)


class _Called(nn.Module):
    """A module whose forward is a function of another module: what ``functional_call`` takes."""

    def __init__(self, model: nn.Module, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def dry_run(model: nn.Module, function: Callable[[Tensor], Any], shape: tuple[int, ...]) -> Any:
    """Return what ``function`` (a method of ``model``) makes of images (B, C, H, W) of a shape.

    Runs in eval mode on the meta device; where an operation is not there, on the model's device.
    The model stays as it is. Raises what the model raises for such images.
    """
    called = _Called(model, function)
    tensors = {**dict(called.named_parameters()), **dict(called.named_buffers())}
    blank = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    device = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
    dtype = next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32)
    with in_eval_mode(model), torch.no_grad():
        try:
            images = torch.empty(shape, device="meta", dtype=dtype)
            return functional_call(called, blank, (images,))
        except Exception:  # no such operation on meta, or no such images: the device can tell
            return function(torch.zeros(shape, device=device, dtype=dtype))


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode for a while; every module's mode comes back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        model.train(modes[0][1])  # not the flag alone: a borrowed model's is no module of it
        for module, mode in modes:
            module.training = mode
