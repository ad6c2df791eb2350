"""Shapes without computing: a forward pass on torch's ``meta`` device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


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
