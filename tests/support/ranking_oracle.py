"""The parts of a ranking loss written as a loop, and the inputs of its tests."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

PHI: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "softsign": lambda x: x / (1 + x.abs()),
    "arctan": lambda x: torch.atan(x) * 2 / math.pi,
}


def classes_that_take_part(teacher: list[float], channels: str, student: list[float]) -> list[int]:
    order = sorted(range(len(teacher)), key=lambda c: teacher[c])
    if channels == "all":
        return order
    side, share = channels.split(":")
    if side == "union":
        top = f"top:{share}"
        both = (classes_that_take_part(x, top, x) for x in (student, teacher))
        return sorted(set().union(*both))
    count = float(share) if float(share) > 1 else max(2, round(float(share) * len(teacher)))
    return order[-int(count) :] if side == "top" else order[: int(count)]


def logits(seed: int, batch: int, classes: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, classes, generator=generator, dtype=torch.float64).to(dtype)


def value_and_gradient(loss: Callable[[Tensor], Tensor], student: Tensor) -> tuple[Tensor, Tensor]:
    leaf = student.detach().clone().requires_grad_()
    value = loss(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient
