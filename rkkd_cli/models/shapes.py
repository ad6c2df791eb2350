"""The shapes of a model's features, from a forward pass on PyTorch's meta device.

Projectors are built to fit them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rkkd_cli.models.features import Classifier, Features


class FeatureShapes(NamedTuple):
    """Shapes without the batch dimension: maps and final (D, H, W), pooled D.

    ``final`` is None for a model whose classifier takes no feature map.
    """

    maps: tuple[torch.Size, ...]
    pooled: int
    final: torch.Size | None


def feature_shapes(
    model: Classifier, in_channels: int, image_size: tuple[int, int]
) -> FeatureShapes:
    """Return the shapes of the model's features for images of a size, computing almost nothing.

    The model, its mode and the random generators do not change. Raises whatever the model raises
    for images that it cannot take.
    """
    shape = (2, in_channels, *image_size)
    features: Features = dry_run(model, model.forward_features, shape)
    final = None if features.final is None else features.final.shape[1:]
    maps = tuple(feature_map.shape[1:] for feature_map in features.maps)
    return FeatureShapes(maps, features.pooled.shape[1], final)


class _FunctionOfModel(nn.Module):
    """A module whose forward is a function of another module, for ``functional_call``."""

    def __init__(self, model: nn.Module, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def dry_run(model: nn.Module, function: Callable[[Tensor], Any], shape: tuple[int, ...]) -> Any:
    """Return the output of ``function``, which calls ``model``, for images of a shape (B, C, H, W).

    Runs in eval mode on the meta device, or on the model's device if an operation does not exist on
    meta. The model does not change. Raises whatever the model raises for such images.
    """
    module = _FunctionOfModel(model, function)
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    meta_tensors = {
        name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()
    }
    device = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
    dtype = next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32)
    with in_eval_mode(model), torch.no_grad():
        try:
            images = torch.empty(shape, device="meta", dtype=dtype)
            return functional_call(module, meta_tensors, (images,))
        except Exception:  # the operation or the images may be the reason: the device tells
            return function(torch.zeros(shape, device=device, dtype=dtype))


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode; afterwards restore the mode of every module."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        model.train(modes[0][1])  # a WrappedModel's library is not among its modules
        for module, mode in modes:
            module.training = mode
