"""Sums over an epoch, kept on the device and read once."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class NonFinite(NamedTuple):
    """The first step (from 1) at which a term was NaN or infinite."""

    term: str
    step: int


class Totals:
    """Weighted sums of named scalars, and when each first stopped being finite."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names = tuple(names)
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(len(self.names), dtype=dtype, device=device)
        self.finite_steps = torch.zeros(len(self.names), dtype=torch.int64, device=device)
        self.finite = torch.ones(len(self.names), dtype=torch.bool, device=device)
        self.images = 0

    def add(self, values: Mapping[str, Tensor], images: int) -> None:
        """Add a batch's means, each weighted by its number of images."""
        stacked = torch.stack([values[name].detach() for name in self.names])
        self.sums += stacked.to(self.sums.dtype) * images
        self.finite &= torch.isfinite(stacked)
        self.finite_steps += self.finite
        self.images += images

    def means(self) -> dict[str, float]:
        """Return the mean of every name over all images so far. Waits for the device."""
        return dict(zip(self.names, (self.sums / self.images).tolist(), strict=True))

    def first_non_finite(self) -> NonFinite | None:
        """Return the earliest term that was NaN or infinite, if any. Waits for the device."""
        finite, steps = self.finite.tolist(), self.finite_steps.tolist()
        bad = [
            NonFinite(name, step + 1)
            for name, good, step in zip(self.names, finite, steps, strict=True)
            if not good
        ]
        return min(bad, key=lambda one: one.step, default=None)
