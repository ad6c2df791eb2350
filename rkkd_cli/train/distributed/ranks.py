"""The processes that train one stream together, each on its part of every batch.

What an arm descends is Σ_r B_r / B · loss_r over ranks r, each with B_r of the batch's B images:
for terms that are means over images, the loss of the whole batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rkkd_cli.data.stream import Batch, Part
from rkkd_cli.errors import RunError
from rkkd_cli.train.distributed.messages import Messages, reason

# A rank that has gone is noticed at once; one that hangs, after this.
SILENCE = timedelta(minutes=30)

T = TypeVar("T")


class Ranks:
    """One process alone: there is nobody to share with, and no number changes."""

    rank, count = 0, 1

    @property
    def is_first(self) -> bool:
        """Tell whether this is the rank that decides, records and speaks."""
        return self.rank == 0

    @property
    def part(self) -> Part:
        """This rank's part of every batch."""
        return Part(self.rank, self.count)

    def weighted(self, loss: Tensor, batch: Batch) -> Tensor:
        """Return what this rank adds to the loss of the whole batch."""
        return loss

    def reduce(self, summed: Sequence[Tensor], of_first: Sequence[Tensor] = ()) -> None:
        """Sum tensors over all ranks in place, and give every rank the first one's others."""

    def descend(self, model: nn.Module) -> None:
        """Give every rank the gradients of the whole batch, and the first rank's buffers."""

    def pooled(
        self, means: Sequence[Tensor], counts: Sequence[Tensor], batch: Batch
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the means and the counts of the whole batch, of those of this rank's part."""
        return means, counts

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return, for each flag, whether any rank has raised it."""
        return flags

    def gathered(self, thing: T) -> list[T]:
        """Return every rank's thing, on the first rank; on others perhaps an empty list."""
        return [thing]

    def from_first(self, thing: T) -> T:
        """Return the first rank's thing."""
        return thing

    def tell(self, word: str) -> None:
        """Let the other ranks :meth:`hear` a word, whenever they get there."""

    def hear(self) -> str:
        """Return the next word of the first rank, which may take its time."""
        raise AssertionError("nobody is there to be heard")


ALONE = Ranks()


class Group(Ranks):
    """Several processes. Each calls the same methods in the same order, after :meth:`join`.

    ``messages`` is where the first rank leaves words for the others.
    """

    def __init__(self, rank: int, count: int, messages: Messages) -> None:
        self.rank, self.count, self.messages = rank, count, messages

    def join(self, kind: str) -> None:
        """Connect with the other ranks, to share tensors on this kind of device and on the CPU."""
        backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
        with self._together():
            dist.init_process_group(
                backend,
                store=self.messages.store,
                rank=self.rank,
                world_size=self.count,
                timeout=SILENCE,
            )

    def leave(self) -> None:
        """Disconnect; ranks that still wait for this one then know that it has gone."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def weighted(self, loss: Tensor, batch: Batch) -> Tensor:
        """Return B_r / B · loss."""
        return loss * batch.share

    def reduce(self, summed: Sequence[Tensor], of_first: Sequence[Tensor] = ()) -> None:
        """Sum tensors over all ranks in place, and give every rank the first one's others.

        One collective for each dtype. What only the first rank has is a sum as well: zeros stand
        for the others.
        """
        tensors = [*summed, *of_first]
        given = [*summed, *(one if self.is_first else torch.zeros_like(one) for one in of_first)]
        for dtype in dict.fromkeys(one.dtype for one in tensors):
            of_dtype = [number for number, one in enumerate(tensors) if one.dtype == dtype]
            flat = torch.cat([given[number].detach().reshape(-1) for number in of_dtype])
            with self._together():
                dist.all_reduce(flat)
            pieces = torch.split(flat, [tensors[number].numel() for number in of_dtype])
            for number, piece in zip(of_dtype, pieces, strict=True):
                tensors[number].detach().copy_(piece.view(tensors[number].shape))

    def descend(self, model: nn.Module) -> None:
        """Sum the gradients of the ranks' weighted losses; buffers become the first rank's.

        Whole numbers among the buffers count steps, and are the same everywhere.
        """
        gradients = [one.grad for one in model.parameters() if one.grad is not None]
        self.reduce(gradients, [one for one in model.buffers() if one.is_floating_point()])

    def pooled(
        self, means: Sequence[Tensor], counts: Sequence[Tensor], batch: Batch
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return Σ_r B_r / B · means, and the summed counts, of all that count."""
        weighted = [one.detach().double() * batch.share for one in means]
        counted = [one * int(batch.share > 0) for one in counts]
        if batch.share == 0:  # not even what is not finite counts
            weighted = [torch.zeros_like(one) for one in weighted]
        self.reduce([*weighted, *counted])
        return weighted, counted

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return, for each flag, whether any rank has raised it. No GPU waits for it."""
        raised = torch.tensor(flags, dtype=torch.int32)
        with self._together():
            dist.all_reduce(raised)
        return tuple(one > 0 for one in raised.tolist())

    def gathered(self, thing: T) -> list[T]:
        """Return every rank's thing, on the first rank; on others an empty list."""
        things: list[Any] | None = [None] * self.count if self.is_first else None
        with self._together():
            dist.gather_object(thing, things)
        return things or []

    def from_first(self, thing: T) -> T:
        """Return the first rank's thing."""
        things = [thing]
        with self._together():
            dist.broadcast_object_list(things)
        return things[0]

    def tell(self, word: str) -> None:
        """Let the other ranks :meth:`hear` a word, whenever they get there."""
        if self.is_first:
            self.messages.tell(word)

    def hear(self) -> str:
        """Return the next word of the first rank. Raises Dismissed where there will be none."""
        return self.messages.hear()

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RunError(
                f"rank {self.rank} of {self.count} has lost another one ({reason(error)}); with "
                "--max-restarts torchrun goes on from the last checkpoint"
            ) from None
