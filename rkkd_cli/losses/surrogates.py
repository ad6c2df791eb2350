"""Surrogates: differentiable stand-ins for sign(t_i − t_j) · sign(s_i − s_j).

A surrogate takes the differences Δt = t_i − t_j and Δs = s_i − s_j of a block of pairs, and the
steepness k. It returns the agreement p of each pair, in [−1, 1], and its slope ∂p/∂Δs. Slopes must
be antisymmetric: exchanging i and j changes the sign. The ranking loss relies on that.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

PairAgreement = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]


def tanh(dt: Tensor, ds: Tensor, k: float) -> tuple[Tensor, Tensor]:
    """φ(x) = tanh x: p = φ(kΔt)·φ(kΔs), slope = φ(kΔt)·k·(1 − φ(kΔs)²)."""
    teacher, student = torch.tanh(k * dt), torch.tanh(k * ds)
    return teacher * student, teacher * (1 - student * student) * k


def softsign(dt: Tensor, ds: Tensor, k: float) -> tuple[Tensor, Tensor]:
    """φ(x) = x / (1 + |x|): φ′(x) = 1 / (1 + |x|)²."""
    x, y = k * dt, k * ds
    teacher, reciprocal = x / (1 + x.abs()), 1 / (1 + y.abs())
    return teacher * y * reciprocal, teacher * reciprocal * reciprocal * k


def arctan(dt: Tensor, ds: Tensor, k: float) -> tuple[Tensor, Tensor]:
    """φ(x) = 2/π · arctan x: φ′(x) = 2/π / (1 + x²)."""
    x, y = k * dt, k * ds
    teacher = torch.atan(x) * (2 / math.pi)
    return teacher * torch.atan(y) * (2 / math.pi), teacher * (2 / math.pi * k) / (1 + y * y)


def tanh_product(dt: Tensor, ds: Tensor, k: float) -> tuple[Tensor, Tensor]:
    """No φ: p = tanh(k·Δt·Δs), slope = (1 − p²)·k·Δt."""
    p = torch.tanh(k * dt * ds)
    return p, (1 - p * p) * k * dt


SURROGATES: dict[str, PairAgreement] = {
    "tanh": tanh,
    "softsign": softsign,
    "arctan": arctan,
    "tanh_product": tanh_product,
}
# The surrogates of the numba and Triton kernels, which know them by their index here.
COMPILED_SURROGATES = ("tanh", "softsign", "arctan", "tanh_product")
# φ'(x) > 0.01·φ'(0) for |x| below this; x is kΔs, for tanh_product kΔtΔs.
LIVE_LIMITS = {
    "tanh": math.atanh(math.sqrt(0.99)),
    "softsign": 9.0,
    "arctan": math.sqrt(99),
    "tanh_product": math.atanh(math.sqrt(0.99)),
}
