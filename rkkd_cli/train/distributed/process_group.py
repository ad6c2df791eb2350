"""The processes that train one stream together, each on its shard of every batch.

An arm minimises Σ_r B_r / B · loss_r over ranks r, where rank r has B_r of the batch's B images.
For terms that are means over images, that is the loss of the global batch.
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
from rkkd_cli.train.distributed.control_channel import ControlChannel, first_sentence

# After this time a rank that hangs is noticed; one that has died is noticed at once.
COLLECTIVE_TIMEOUT = timedelta(minutes=30)

T = TypeVar("T")


class ProcessGroup:
    """A single process: it communicates nothing, and no number changes."""

    rank, world_size = 0, 1

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which decides, records and prints."""
        return self.rank == 0

    @property
    def shard(self) -> Shard:
        """This rank's shard of every batch."""
        return Shard(self.rank, self.world_size)

    def scale_loss(self, loss: Tensor, batch: Batch) -> Tensor:
        """Return this rank's contribution to the loss of the global batch."""
        return loss

    def all_reduce(self, summed: Sequence[Tensor], from_first: Sequence[Tensor] = ()) -> None:
        """Sum ``summed`` over all ranks in place; overwrite ``from_first`` with rank 0's values."""

    def sync_gradients(self, model: nn.Module) -> None:
        """Give every rank the gradients of the global batch, and rank 0's buffers."""

    def reduce_metrics(
        self, means: Sequence[Tensor], counts: Sequence[Tensor], batch: Batch
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the means and counts of the global batch, given those of this rank's shard."""
        return means, counts

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return, for each flag, whether any rank has set it."""
        return flags

    def gather(self, value: T) -> list[T]:
        """Return every rank's value on rank 0; on other ranks the list may be empty."""
        return [value]

    def broadcast(self, value: T) -> T:
        """Return rank 0's value."""
        return value

    def send(self, message: str) -> None:
        """Send a message from rank 0. The other ranks :meth:`receive` it when they get there."""

    def receive(self) -> str:
        """Return the next message from rank 0, however long that takes."""
        raise AssertionError("a single process receives nothing")


SINGLE_PROCESS = ProcessGroup()


class TorchrunGroup(ProcessGroup):
    """Several processes. After :meth:`init`, all call the same methods in the same order.

    Messages of rank 0 travel through ``channel``.
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
                timeout=COLLECTIVE_TIMEOUT,
            )

    def destroy(self) -> None:
        """Disconnect. Ranks that still wait for this one then notice that it is gone."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def scale_loss(self, loss: Tensor, batch: Batch) -> Tensor:
        """Return B_r / B · loss."""
        return loss * batch.weight

    def all_reduce(self, summed: Sequence[Tensor], from_first: Sequence[Tensor] = ()) -> None:
        """Sum ``summed`` over all ranks in place; overwrite ``from_first`` with rank 0's values.

        One collective per dtype: rank 0's values are summed as well, with zeros on other ranks.
        """
        tensors, values = [*summed, *from_first], list(summed)
        values += from_first if self.is_first else [torch.zeros_like(t) for t in from_first]
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            indices = [index for index, tensor in enumerate(tensors) if tensor.dtype == dtype]
            flat = torch.cat([values[index].detach().reshape(-1) for index in indices])
            with self._collective():
                dist.all_reduce(flat)
            parts = torch.split(flat, [tensors[index].numel() for index in indices])
            for index, part in zip(indices, parts, strict=True):
                tensors[index].detach().copy_(part.view(tensors[index].shape))

    def sync_gradients(self, model: nn.Module) -> None:
        """Sum the gradients of the ranks' scaled losses; overwrite the buffers with rank 0's.

        Integer buffers count steps, and are equal on all ranks.
        """
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        self.all_reduce(gradients, [b for b in model.buffers() if b.is_floating_point()])

    def reduce_metrics(
        self, means: Sequence[Tensor], counts: Sequence[Tensor], batch: Batch
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return Σ_r B_r / B · means, and the summed counts. Padding counts as nothing."""
        weighted_means = [mean.detach().double() * batch.weight for mean in means]
        own_counts = [count * int(batch.weight > 0) for count in counts]
        if batch.weight == 0:  # 0 · NaN is NaN
            weighted_means = [torch.zeros_like(mean) for mean in weighted_means]
        self.all_reduce([*weighted_means, *own_counts])
        return weighted_means, own_counts

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return, for each flag, whether any rank has set it. No GPU waits for this."""
        counts = torch.tensor(flags, dtype=torch.int32)
        with self._collective():
            dist.all_reduce(counts)
        return tuple(count > 0 for count in counts.tolist())

    def gather(self, value: T) -> list[T]:
        """Return every rank's value on rank 0; an empty list on other ranks."""
        values: list[Any] | None = [None] * self.world_size if self.is_first else None
        with self._collective():
            dist.gather_object(value, values)
        return values or []

    def broadcast(self, value: T) -> T:
        """Return rank 0's value."""
        values = [value]
        with self._collective():
            dist.broadcast_object_list(values)
        return values[0]

    def send(self, message: str) -> None:
        """Send a message from rank 0. The other ranks :meth:`receive` it when they get there."""
        if self.is_first:
            self.channel.send(message)

    def receive(self) -> str:
        """Return the next message from rank 0. Raises Dismissed if there will be none."""
        return self.channel.receive()

    @contextmanager
    def _collective(self) -> Iterator[None]:
        """Turn the failure of a collective into a RunError."""
        try:
            yield
        except RuntimeError as error:
            raise RunError(
                f"rank {self.rank} of {self.world_size} has lost another rank "
                f"({first_sentence(error)}); with --max-restarts torchrun goes on from the last "
                "checkpoint"
            ) from None
