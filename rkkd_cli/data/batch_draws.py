"""The random numbers of one batch, the same for every share of it."""

from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.data.seeding import derive_seed


class BatchDraws(NamedTuple):
    """Draws on the CPU for the ``size`` images of a batch, and keeps those of ``images``.

    ``seed`` is the batch's own. Each purpose has a generator of its own, so that one augmentation
    changes no draw of another. ``images`` are positions within the batch.
    """

    seed: int
    size: int
    images: slice | Tensor = slice(None)

    def generator(self, purpose: str) -> torch.Generator:
        """Return the generator for a purpose, at its start."""
        return torch.Generator().manual_seed(derive_seed(self.seed, purpose))

    def uniform(self, generator: torch.Generator, *shape: int) -> Tensor:
        """Return numbers in [0, 1), float64, so many for each image: (B, *shape)."""
        drawn = torch.rand(self.size, *shape, generator=generator, dtype=torch.float64)
        return drawn[self.images]

    def integers(self, count: int, generator: torch.Generator) -> Tensor:
        """Return a number below ``count`` for each image, (B,)."""
        return torch.randint(count, (self.size,), generator=generator)[self.images]
