"""Pieces that several architectures of the zoo are made of."""

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional as F


class Stage(nn.Sequential):
    """Residual blocks in a row, each of which gives its sum before the ReLU."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stage's map after its last ReLU, and before it."""
        before = x
        for block in self:
            before = block(x)
            x = F.relu(before)
        return x, before


def staged(stem: Tensor, stages: Iterable[nn.Module]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the maps of the stem and of the stages behind it, and the same before their ReLU."""
    maps, preacts = [stem], [stem]
    for stage in stages:
        after, before = stage(maps[-1])
        maps.append(after)
        preacts.append(before)
    return maps, preacts


def average(final: Tensor) -> Tensor:
    """Return the means (B, D) of a map (B, D, H, W) over its places."""
    return final.mean(dim=(2, 3))


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Return the map (B, D, H, W) with the channels of its ``groups`` interleaved.

    Source: ShuffleNet, arXiv 1707.01083, figure 1.
    """
    batch, width, *size = x.shape
    grouped = x.reshape(batch, groups, width // groups, *size)
    return grouped.transpose(1, 2).reshape(batch, width, *size)
