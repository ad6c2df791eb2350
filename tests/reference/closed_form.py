"""Inputs in closed form: the same numbers on every machine, without a random generator."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm


def wave(shape: list[int], phase: float = 0.0, scale: float = 1.0) -> Tensor:
    """Entry n, counted row by row, is scale · sin(phase + 1.7 n + 0.37 n²), in float64."""
    n = torch.arange(math.prod(shape), dtype=torch.float64)
    return (scale * torch.sin(phase + 1.7 * n + 0.37 * n * n)).reshape(shape)


def labels(images: int, classes: int) -> Tensor:
    """Image b has the class (b² + 1) mod C."""
    return torch.tensor([(b * b + 1) % classes for b in range(images)])


def build(recipe: Mapping[str, Any]) -> Tensor:
    """Return the tensor of a recipe: ``shape``, ``phase``, ``scale``, and possibly ``kind``.

    ``labels`` has a shape [B, C]; ``unit`` divides by the length along the last dimension.
    """
    kind = recipe.get("kind", "wave")
    if kind == "labels":
        return labels(*recipe["shape"])
    x = wave(recipe["shape"], recipe.get("phase", 0.0), recipe.get("scale", 1.0))
    return x / vector_norm(x, dim=-1, keepdim=True) if kind == "unit" else x


def entries(x: Tensor) -> dict[str, float]:
    """Return a few entries of a tensor by their index in the flattened tensor."""
    flat = x.detach().flatten()
    indices = sorted({0, len(flat) // 3, 2 * len(flat) // 3, len(flat) - 1})
    return {str(n): flat[n].item() for n in indices}


def summary(output: Tensor, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Summarise a function's value and gradients in a few numbers.

    A value with several entries is multiplied with a wave and summed before it is differentiated.
    """
    weighted = (
        output.sum() if output.numel() == 1 else (output * wave(list(output.shape), 0.9)).sum()
    )
    leaves = {name: x for name, x in inputs.items() if x.requires_grad}
    gradients = {}
    if weighted.requires_grad:
        grads = torch.autograd.grad(weighted, list(leaves.values()), allow_unused=True)
        for name, gradient in zip(leaves, grads, strict=True):
            if gradient is not None:
                size = gradient.abs().sum().item()
                gradients[name] = {"sum_of_sizes": size, "entries": entries(gradient)}
    sizes = output.detach().abs().sum().item()
    return {"sum_of_sizes": sizes, "entries": entries(output), "gradients": gradients}
