"""Work on a batch that a CUDA graph repeats: recorded once, then replayed with other batches.

What Python does between the operations costs a GPU more time than the operations of a small
network do. A graph leaves Python out: the operations are launched all at once, on the same memory,
with the numbers that were constants when they were recorded.
"""

import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from rkkd_cli.data.stream import Batch

# Batches that are worked on as ever before the next one is recorded: optimisers make their states,
# kernels are compiled, and it shows whether anything is drawn.
WARM_UP = 3
# How far what a replay has changed may be from what the work itself has changed.
RELATIVE, ABSOLUTE = 1e-3, 1e-5

T = TypeVar("T")


class Recording(NamedTuple, Generic[T]):
    """A call that repeats recorded work, and what the work returned, which repeating overwrites."""

    replay: Callable[[], None]
    result: T


class GraphRecorder(Protocol):
    """What records work on a device."""

    def warm_up(self, work: Callable[[], T]) -> T:
        """Do the work where it will be recorded."""

    def record(self, work: Callable[[], T]) -> Recording[T]:
        """Record the work. What it changes may be changed by that or not."""


class CudaGraphRecorder:
    """Records CUDA graphs of one device, on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, work: Callable[[], T]) -> T:
        """Do the work on the stream, between what was launched before and what comes after."""
        outside = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(outside)
        with torch.cuda.stream(self.stream), warnings.catch_warnings():
            # Optimisers wonder that what can be captured is not.
            warnings.filterwarnings("ignore", message=".*capturable=True")
            result = work()
        outside.wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], T]) -> Recording[T]:
        """Record the work. Raises RuntimeError for work that reads from the device."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            result = work()

        def replay() -> None:
            with torch.cuda.device(self.stream.device):  # which may not be the current one
                graph.replay()

        return Recording(replay, result)


class CudaGraphStep(Generic[T]):
    """Work on batches of ``size`` images that changes tensors, recorded as soon as it can be.

    ``state`` returns those tensors, and ``why_not`` what has shown in the first batches to be in
    the way, if anything. The first replay is held against the work itself: where it does not change
    the tensors alike, or where the work cannot be recorded, all goes on as if nothing had been
    recorded, and ``problem`` says why.
    """

    def __init__(
        self,
        graph_recorder: GraphRecorder,
        size: int,
        state: Callable[[], Sequence[Tensor]],
        why_not: Callable[[], str],
    ) -> None:
        self.graph_recorder, self.size, self.state, self.why_not = (
            graph_recorder,
            size,
            state,
            why_not,
        )
        self.problem = ""
        self._forget(None)

    def _forget(self, signature: Hashable) -> None:
        self.signature, self.warmed_up = signature, 0
        self.inputs: Batch | None = None
        self.recording: Recording[T] | None = None

    def __call__(self, work: Callable[[Batch], T], batch: Batch, signature: Hashable) -> T:
        """Return what the work on the batch returns; it is overwritten by the next call.

        Work of one ``signature`` does the same with every batch.
        """
        if self.problem or len(batch.labels) != self.size:
            return work(batch)
        if signature != self.signature:
            self._forget(signature)
        if self.warmed_up < WARM_UP:
            self.warmed_up += 1
            return self.graph_recorder.warm_up(lambda: work(batch))
        if self.recording is None or self.inputs is None:
            self.problem = self.why_not()
            return work(batch) if self.problem else self._recorded(work, batch)
        _copy(batch, self.inputs)
        self.recording.replay()
        return self.recording.result

    def _recorded(self, work: Callable[[Batch], T], batch: Batch) -> T:
        """Work on the batch; then record that, and see whether a replay comes to the same."""
        self.inputs = inputs = _copied(batch)
        before = [one.clone() for one in self.state()]
        result = self.graph_recorder.warm_up(lambda: work(inputs))
        after = [one.clone() for one in self.state()]
        try:
            self.recording = self.graph_recorder.record(lambda: work(inputs))
        except RuntimeError as error:
            self.problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        else:
            self._put(before)
            self.recording.replay()
            if all(map(_alike, self.state(), after)):
                return self.recording.result
            self.problem = "replayed, it changes the weights otherwise than it should"
        self._put(after)
        self._forget(None)
        return result

    def _put(self, values: Sequence[Tensor]) -> None:
        for tensor, value in zip(self.state(), values, strict=True):
            tensor.copy_(value)


def _copied(batch: Batch) -> Batch:
    clones: dict[str, Any] = {name: one.clone() for name, one in _tensors(batch).items()}
    return batch._replace(**clones)


def _copy(batch: Batch, into: Batch) -> None:
    inputs = _tensors(into)
    for name, tensor in _tensors(batch).items():
        inputs[name].copy_(tensor)


def _tensors(batch: Batch) -> dict[str, Tensor]:
    fields = batch._asdict().items()
    return {name: value for name, value in fields if isinstance(value, Tensor)}


def _alike(one: Tensor, other: Tensor) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    return torch.allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
