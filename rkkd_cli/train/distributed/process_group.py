"""The processes that train one stream together, each on its shard of every batch.

An arm minimises Σ_r B_r / B · loss_r over ranks r, where rank r has B_r of the batch's B images.
For terms that are means over images, that is the loss of the global batch. Where a batch's images
are compared with each other, every rank gets the outputs on all of them, and so that loss itself.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import Store
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from rkkd_cli.data.on_device import AnyBatch
from rkkd_cli.data.stream import Batch, Shard
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.methods.inputs import as_float32
from rkkd_cli.models import Features
from rkkd_cli.train.distributed.gather import gather_shards

# After this time a rank that hangs is noticed; one that has died is noticed at once.
COLLECTIVE_TIMEOUT = timedelta(minutes=30)
FAILURE_KEY = "failure"  # in the store: why a rank has ended, in its own words
BATCHNORM_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

T = TypeVar("T")


class LostRankError(RunError):
    """Another rank is gone."""


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

    def for_batches(self, are_compared: bool) -> "ProcessGroup":
        """Return the processes for batches whose images are compared with each other, or are not.

        Where they are, every process has the rows, the loss and the metrics of the global batch.
        """
        return self

    def gather_outputs(self, outputs: Features, batch: Batch) -> Features:
        """Return the outputs that this rank makes rows of, given those on its shard.

        Gradients pass through.
        """
        return outputs

    def gather_labels(self, batch: Batch) -> Batch:
        """Return the batch with the labels and sample indices of the rows; images stay."""
        return batch

    def wrap(self, loss: nn.Module, sync_batchnorm: bool, uses_all: bool) -> nn.Module:
        """Return the module ``loss``, whose backward pass gives all ranks the same gradients.

        Its forward pass returns this rank's loss, from which :meth:`scale_loss` makes what is
        backpropagated. With ``sync_batchnorm`` its BatchNorm layers normalise the global batch.
        ``uses_all``: every step gives every parameter a gradient.
        """
        return loss

    def scale_loss(self, loss: Tensor, batch: AnyBatch) -> Tensor:
        """Return what a rank backpropagates, for the gradients of the global batch."""
        return loss

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sum the tensors over all ranks, in place."""

    def broadcast_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors with those of rank 0."""

    def reduce_metrics(
        self, means: Sequence[Tensor], counts: Sequence[Tensor], batch: AnyBatch
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


SINGLE_PROCESS = ProcessGroup()


class TorchrunGroup(ProcessGroup):
    """Several processes, which all call the same methods in the same order.

    ``store`` is that of torch.distributed, to which all ranks are connected.
    """

    def __init__(self, rank: int, world_size: int, store: Store) -> None:
        self.rank, self.world_size, self.store = rank, world_size, store
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with self.collective():
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=world_size, timeout=COLLECTIVE_TIMEOUT
            )

    def for_batches(self, are_compared: bool) -> ProcessGroup:
        """Return the ranks for batches whose images are compared with each other, or are not."""
        return WholeBatchGroup(self) if are_compared else self

    def destroy(self) -> None:
        """Disconnect. Ranks that still wait for this one then notice that it is gone."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def wrap(self, loss: nn.Module, sync_batchnorm: bool, uses_all: bool) -> nn.Module:
        """Return ``loss`` as a DistributedDataParallel; all ranks get rank 0's weights.

        Unless it ``uses_all`` parameters, each step looks for those without a gradient, which
        depend on the method and on the epoch. Buffers are rank 0's in each step. BatchNorm's are
        not: it reads them in evaluation only, before which :meth:`broadcast_tensors` is called.

        Raises UserError for a layer that is more than BatchNorm and would be synchronised.
        """
        if sync_batchnorm:
            _check_batchnorm(loss)
            loss = nn.SyncBatchNorm.convert_sync_batchnorm(loss)  # type: ignore[no-untyped-call]
        parallel = DistributedDataParallel(loss, find_unused_parameters=not uses_all)
        parallel.broadcast_buffers = any(
            list(layer.buffers(recurse=False)) and not isinstance(layer, _BatchNorm)
            for layer in loss.modules()
        )
        return parallel

    def scale_loss(self, loss: Tensor, batch: AnyBatch) -> Tensor:
        """Return R · B_r / B · loss: DistributedDataParallel averages the gradients of R ranks."""
        return loss * (self.world_size * batch.weight)

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sum the tensors over all ranks, in place."""
        self._at_once(tensors, dist.all_reduce)

    def broadcast_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors with those of rank 0."""
        self._at_once(tensors, partial(dist.broadcast, src=0))

    def _at_once(self, tensors: Sequence[Tensor], collective: Callable[[Tensor], object]) -> None:
        """Call the collective once for all tensors of a dtype."""
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            alike = [tensor.detach() for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            sizes = [tensor.numel() for tensor in alike]
            with self.collective():
                collective(flat)
            for tensor, part in zip(alike, torch.split(flat, sizes), strict=True):
                tensor.copy_(part.view(tensor.shape))

    def reduce_metrics(
        self, means: Sequence[Tensor], counts: Sequence[Tensor], batch: AnyBatch
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
        with self.collective():
            dist.all_reduce(counts)
        return tuple(count > 0 for count in counts.tolist())

    def gather(self, value: T) -> list[T]:
        """Return every rank's value on rank 0; an empty list on other ranks."""
        values: list[Any] | None = [None] * self.world_size if self.is_first else None
        with self.collective():
            dist.gather_object(value, values)
        return values or []

    def broadcast(self, value: T) -> T:
        """Return rank 0's value."""
        values = [value]
        with self.collective():
            dist.broadcast_object_list(values)
        return values[0]

    @contextmanager
    def collective(self) -> Iterator[None]:
        """Raise LostRankError where a collective fails, or RunError if a rank has said why."""
        try:
            yield
        except RuntimeError as error:
            if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
                raise
            if self.is_first and self.store.check([FAILURE_KEY]):
                raise RunError(self.store.get(FAILURE_KEY).decode()) from None
            raise LostRankError(
                f"rank {self.rank} of {self.world_size} has lost another rank "
                f"({first_sentence(error)}); with --max-restarts torchrun goes on from the last "
                "checkpoint"
            ) from None


class WholeBatchGroup(TorchrunGroup):
    """The ranks of a group, each of which gets the outputs on all images of a batch."""

    def __init__(self, group: TorchrunGroup) -> None:
        self.rank, self.world_size, self.store = group.rank, group.world_size, group.store

    def gather_outputs(self, outputs: Features, batch: Batch) -> Features:
        """Return the outputs on the global batch."""
        outputs = as_float32(outputs)
        maps, preacts, final = outputs.maps, outputs.preacts, outputs.final
        tensors = [outputs.pooled, outputs.logits, *maps, *preacts]
        tensors += [] if final is None else [final]
        pooled, logits, *others = self._gather(batch, *tensors)
        return Features(
            maps=tuple(others[: len(maps)]),
            pooled=pooled,
            logits=logits,
            preacts=tuple(others[len(maps) : len(maps) + len(preacts)]),
            final=None if final is None else others[-1],
        )

    def gather_labels(self, batch: Batch) -> Batch:
        """Return the batch with the labels and sample indices of all its images."""
        labels, indices = self._gather(batch, batch.labels, batch.indices)
        return batch._replace(labels=labels, indices=indices, global_size=None, is_padding=False)

    def _gather(self, batch: Batch, *shards: Tensor) -> tuple[Tensor, ...]:
        own = self.shard.within(0, batch.total)
        return gather_shards(self.all_reduce, own, batch.total, self.world_size, *shards)

    def scale_loss(self, loss: Tensor, batch: AnyBatch) -> Tensor:
        """Return the loss: it is that of the global batch, and so are its gradients."""
        return loss

    def reduce_metrics(
        self, means: Sequence[Tensor], counts: Sequence[Tensor], batch: AnyBatch
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return means and counts: they are those of the global batch."""
        return means, counts


def _check_batchnorm(module: nn.Module) -> None:
    """Raise UserError for a subclass of BatchNorm, which may compute something else."""
    for layer in module.modules():
        if isinstance(layer, _BatchNorm) and type(layer) not in BATCHNORM_TYPES:
            raise UserError(
                f"sync_batchnorm: {type(layer).__name__} is more than batch normalisation and "
                "cannot be synchronised; leave out sync_batchnorm"
            )


def first_sentence(error: Exception) -> str:
    """Return the first sentence of an error of torch.distributed, without its code location."""
    first_line = (str(error).splitlines() or [""])[0]
    return re.sub(r"^\[[^]]*\] *", "", first_line).partition(". ")[0]
