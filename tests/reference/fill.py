"""Weights and images in closed form: the same on every machine and with every PyTorch version."""

import hashlib
import json
import math
from collections.abc import Mapping
from zlib import crc32

import torch
from torch import Tensor, nn

PRIME = 1_048_573  # PRIME − 1 is no multiple of 3, so cubes modulo PRIME take every value


def scatter(count: int, name: str) -> Tensor:
    """Return ``count`` float64 values in [-1, 1) that depend on the name and the position.

    They are cubes modulo a prime, in exact integers, and as scattered as random numbers. (A sine
    gives weight matrices of rank two, whose output hardly depends on the input.)
    """
    position = torch.arange(count) + crc32(name.encode())
    shifted = (position + 7919 * (position // PRIME)) % PRIME
    return (shifted**3 % PRIME).double() * 2 / PRIME - 1


def filled(name: str, tensor: Tensor) -> Tensor:
    """Return the value of the parameter or buffer ``name``, in the shape of ``tensor``.

    The scale keeps the activations' order of magnitude from layer to layer.
    """
    if not tensor.is_floating_point():
        return torch.zeros_like(tensor)
    values = scatter(tensor.numel(), name).reshape(tensor.shape)
    if tensor.ndim > 1:
        return values * math.sqrt(6 / tensor[0].numel())  # of variance 2 / inputs
    if name.endswith("running_var"):
        return 1 + values / 4
    if name.endswith("weight"):
        return 0.6 + values / 4
    return values / 8


def fill(model: nn.Module) -> nn.Module:
    """Give every parameter and buffer its closed form, in float64 and eval mode."""
    model.double().eval()
    state = model.state_dict()
    model.load_state_dict({name: filled(name, tensor) for name, tensor in state.items()})
    return model


def images(channels: int = 3, side: int = 32) -> Tensor:
    """Return two images in float64."""
    return scatter(2 * channels * side * side, "images").reshape(2, channels, side, side)


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names and shapes of a state dict, in their order."""
    names = [[name, list(tensor.shape)] for name, tensor in state.items()]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()
