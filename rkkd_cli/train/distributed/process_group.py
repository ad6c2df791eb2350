"""The processes that train one stream together, each on its shard of every batch.

An arm minimises Σ_r B_r / B · loss_r over ranks r, each with B_r of the batch's B images: for
terms that are means over images, that is the loss of the whole batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rkkd_cli.data.stream import Batch, Shard
from rkkd_cli.errors import RunError
from rkkd_cli.train.distributed.control_channel import ControlChannel, reason

# A rank that has died is noticed at once; one that hangs, after this.
TIMEOUT = timedelta(minutes=30)

T = TypeVar("T")


class ProcessGroup:
    """A single process: nothing is communicated, and no number changes."""

    rank, world_size = 0, 1

    @property
    def is_first(self) -> bool:
        """Tell whether this is rank 0, which decides, records and prints."""
        return self.rank == 0

    @property
    def shard(self) -> Shard:
        """This rank's shard of every batch."""
        return Shard(self.rank, self.world_size)

    def scale_loss(self, loss: Tensor, batch: Batch) -> Tensor:
        """Return this rank's summand of the loss of the global batch."""
        return loss

    def all_reduce(self, summed: Sequence[Tensor], of_first: Sequence[Tensor] = ()) -> None:
        """Sum ``summed`` over all ranks in place; overwrite ``of_first`` with rank 0's values."""

    def sync_gradients(self, model: nn.Module) -> None:
        """Give every rank the gradients of the global batch, and rank 0's buffers."""

    def reduce_metrics(
        self, means: Sequence[Tensor], counts: Sequence[Tensor], batch: Batch
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the means and counts of the global batch, given those of this rank's shard."""
        return means, counts

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return, for each flag, whether any rank has raised it."""
        return flags

    def gather(self, thing: T) -> list[T]:
        """Return every rank's object on rank 0; on others perhaps an empty list."""
        return [thing]

    def broadcast(self, thing: T) -> T:
        """Return rank 0's object."""
        return thing

    def send(self, word: str) -> None:
        """Send a word from rank 0; the other ranks :meth:`receive` it whenever they get there."""

    def receive(self) -> str:
        """Return the next word from rank 0, however long that takes."""
        raise AssertionError("a single process receives nothing")


SINGLE_PROCESS = ProcessGroup()


class TorchrunGroup(ProcessGroup):
    """Several processes. Each calls the same methods in the same order, after :meth:`init`.

    Rank 0 leaves words for the others in ``channel``.
    """

    def __init__(self, rank: int, world_size: int, channel: ControlChannel) -> None:
        self.rank, self.world_size, self.channel = rank, world_size, channel

    def init(self, device_type: str) -> None:
        """Connect to the other ranks, for tensors on this type of device and on the CPU."""
        backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
        with self._collective():
            dist.init_process_group(
                backend,
                store=self.channel.store,
                rank=self.rank,
                world_size=self.world_size,
                timeout=TIMEOUT,
            )

    def destroy(self) -> None:
        """Disconnect; ranks that still wait for this one then see that it has gone."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def scale_loss(self, loss: Tensor, batch: Batch) -> Tensor:
        """Return B_r / B · loss."""
        return loss * batch.weight

    def all_reduce(self, summed: Sequence[Tensor], of_first: Sequence[Tensor] = ()) -> None:
        """Sum ``summed`` over all ranks in place; overwrite ``of_first`` with rank 0's values.

        One collective for each dtype: what only rank 0 has is a sum as well, of zeros elsewhere.
        """
        tensors = [*summed, *of_first]
        given = [*summed, *(one if self.is_first else torch.zeros_like(one) for one in of_first)]
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            of_dtype = [index for index, tensor in enumerate(tensors) if tensor.dtype == dtype]
            flat = torch.cat([given[index].detach().reshape(-1) for index in of_dtype])
            with self._collective():
                dist.all_reduce(flat)
            pieces = torch.split(flat, [tensors[index].numel() for index in of_dtype])
            for index, piece in zip(of_dtype, pieces, strict=True):
                tensors[index].detach().copy_(piece.view(tensors[index].shape))

    def sync_gradients(self, model: nn.Module) -> None:
        """Sum the gradients of the ranks' scaled losses; buffers become rank 0's.

        Integer buffers count steps, and are the same everywhere.
        """
        gradients = [one.grad for one in model.parameters() if one.grad is not None]
        self.all_reduce(gradients, [one for one in model.buffers() if one.is_floating_point()])

    def reduce_metrics(
        self, means: Sequence[Tensor], counts: Sequence[Tensor], batch: Batch
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return Σ_r B_r / B · means, and the summed counts; padding counts for nothing."""
        weighted = [one.detach().double() * batch.weight for one in means]
        counted = [one * int(batch.weight > 0) for one in counts]
        if batch.weight == 0:  # 0 · NaN is NaN
            weighted = [torch.zeros_like(one) for one in weighted]
        self.all_reduce([*weighted, *counted])
        return weighted, counted

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return, for each flag, whether any rank has raised it. No GPU waits for it."""
        raised = torch.tensor(flags, dtype=torch.int32)
        with self._collective():
            dist.all_reduce(raised)
        return tuple(count > 0 for count in raised.tolist())

    def gather(self, thing: T) -> list[T]:
        """Return every rank's object on rank 0; on others an empty list."""
        things: list[Any] | None = [None] * self.world_size if self.is_first else None
        with self._collective():
            dist.gather_object(thing, things)
        return things or []

    def broadcast(self, thing: T) -> T:
        """Return rank 0's object."""
        things = [thing]
        with self._collective():
            dist.broadcast_object_list(things)
        return things[0]

    def send(self, word: str) -> None:
        """Send a word from rank 0; the other ranks :meth:`receive` it whenever they get there."""
        if self.is_first:
            self.channel.send(word)

    def receive(self) -> str:
        """Return the next word from rank 0. Raises Dismissed where there will be none."""
        return self.channel.receive()

    @contextmanager
    def _collective(self) -> Iterator[None]:
        """Turn the failure of a collective into a sentence for the user."""
        try:
            yield
        except RuntimeError as error:
            raise RunError(
                f"rank {self.rank} of {self.world_size} has lost another one ({reason(error)}); "
                "with --max-restarts torchrun goes on from the last checkpoint"
            ) from None
