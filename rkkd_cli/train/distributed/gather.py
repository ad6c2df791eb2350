"""Tensors of a whole batch from the shards that several ranks have of it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

AllReduce = Callable[[Sequence[Tensor]], None]


def gather_shards(
    all_reduce: AllReduce, own: slice, total: int, ranks: int, *shards: Tensor
) -> tuple[Tensor, ...]:
    """Return tensors (total, …) of every rank's shards (n, …), of which ``own`` are this rank's.

    Gradients pass through. ``own`` may be empty: then the shards do not count. ``all_reduce`` sums
    tensors over the ranks, in place.
    """
    wholes: tuple[Tensor, ...] = GatherShards.apply(all_reduce, own, total, ranks, *shards)
    return wholes


class GatherShards(torch.autograd.Function):
    """See :func:`gather_shards`.

    All ranks compute the same loss of the whole batch, so each knows its gradient by its own shard.
    That is multiplied by the number of ranks, over which DistributedDataParallel averages.
    """

    @staticmethod
    def forward(
        ctx: Any, all_reduce: AllReduce, own: slice, total: int, ranks: int, *shards: Tensor
    ) -> tuple[Tensor, ...]:
        """Return tensors (total, …) of shards (n, …)."""
        ctx.own, ctx.ranks, ctx.sizes = own, ranks, [len(shard) for shard in shards]
        wholes = [shard.new_zeros(total, *shard.shape[1:]) for shard in shards]
        for whole, shard in zip(wholes, shards, strict=True):
            whole[own] = shard[: own.stop - own.start]
        all_reduce(wholes)
        return tuple(wholes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by the shards."""
        by_shards = []
        for gradient, size in zip(gradients, ctx.sizes, strict=True):
            own = gradient[ctx.own] * ctx.ranks
            by_shards.append(torch.cat([own, own.new_zeros(size - len(own), *own.shape[1:])]))
        return None, None, None, None, *by_shards
