"""A training step as a CUDA graph: captured once, then replayed with other batches.

For a small network, the Python code between two GPU operations takes longer than the operations. A
graph launches all operations at once, without Python. They use the same memory each time, and the
numbers that were constants at capture.
"""

import gc
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from rkkd_cli.data.stream import Batch
from rkkd_cli.train.profile import stage

# Steps before the capture: optimisers create their states, kernels are compiled, and it shows
# whether random numbers are drawn.
WARM_UP_STEPS = 3
# How far the effect of a replay may be from that of the step itself.
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-3, 1e-5

T = TypeVar("T")


class Recording(NamedTuple, Generic[T]):
    """A function that replays a recorded step, and the step's result, which replays overwrite."""

    replay: Callable[[], None]
    result: T


class GraphRecorder(Protocol):
    """Records steps on a device."""

    def warm_up(self, step: Callable[[], T]) -> T:
        """Run the step where it will be recorded."""

    def record(self, step: Callable[[], T]) -> Recording[T]:
        """Record the step. Whether this also runs it is left open."""


class CudaGraphRecorder:
    """Captures CUDA graphs on one device, on a CUDA stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, step: Callable[[], T]) -> T:
        """Run the step on the recorder's CUDA stream, in order with the current stream's work."""
        current_stream = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current_stream)
        with torch.cuda.stream(self.stream), warnings.catch_warnings():
            # Optimisers warn about steps that could be captured and are not.
            warnings.filterwarnings("ignore", message=".*capturable=True")
            result = step()
        current_stream.wait_stream(self.stream)
        return result

    def record(self, step: Callable[[], T]) -> Recording[T]:
        """Capture the step. Raises RuntimeError for one that reads from the device."""
        gc.collect()  # a graph of an earlier seed that was freed meanwhile would end the capture
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            result = step()

        def replay() -> None:
            with torch.cuda.device(self.stream.device):  # which may not be the current one
                graph.replay()

        return Recording(replay, result)


class CudaGraphStep(Generic[T]):
    """Runs a step on batches of ``size`` images, and replays it once it could be recorded.

    ``state`` returns the tensors that the step changes. ``why_not`` returns what the first steps
    have shown to prevent a recording, if anything. The first replay is compared with the step
    itself. If it changes the tensors differently, or if the step cannot be recorded, everything
    continues without a recording, and ``problem`` says why.
    """

    def __init__(
        self,
        graph_recorder: GraphRecorder,
        size: int,
        state: Callable[[], Sequence[Tensor]],
        why_not: Callable[[], str],
    ) -> None:
        self.graph_recorder, self.size = graph_recorder, size
        self.state, self.why_not = state, why_not
        self.problem = ""
        self._reset(None)

    def _reset(self, signature: Hashable) -> None:
        self.signature, self.warmed_up = signature, 0
        self.inputs: Batch | None = None
        self.recording: Recording[T] | None = None

    def __call__(self, step: Callable[[Batch], T], batch: Batch, signature: Hashable) -> T:
        """Return the result of the step on the batch; the next call overwrites it.

        Steps with the same ``signature`` do the same with every batch.
        """
        if self.problem or len(batch.labels) != self.size:
            return step(batch)
        if signature != self.signature:
            self._reset(signature)
        if self.warmed_up < WARM_UP_STEPS:
            self.warmed_up += 1
            return self.graph_recorder.warm_up(lambda: step(batch))
        if self.recording is None or self.inputs is None:
            self.problem = self.why_not()
            return step(batch) if self.problem else self._record(step, batch)
        inputs = _tensors(self.inputs)
        with stage("replay"):
            for name, tensor in _tensors(batch).items():
                inputs[name].copy_(tensor)
            self.recording.replay()
        return self.recording.result

    def _record(self, step: Callable[[Batch], T], batch: Batch) -> T:
        """Run the step on the batch; then record it, and check that a replay does the same."""
        clones: dict[str, Any] = {name: tensor.clone() for name, tensor in _tensors(batch).items()}
        if batch.mixed is not None:
            own = {name: clones.pop(name) for name in batch.mixed._fields}
            clones["mixed"] = batch.mixed._replace(**own)
        self.inputs = inputs = batch._replace(**clones)
        before = [tensor.clone() for tensor in self.state()]
        result = self.graph_recorder.warm_up(lambda: step(inputs))
        after = [tensor.clone() for tensor in self.state()]
        try:
            self.recording = self.graph_recorder.record(lambda: step(inputs))
        except RuntimeError as error:
            self.problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        else:
            self._restore(before)
            self.recording.replay()
            if all(map(_is_close, self.state(), after)):
                return self.recording.result
            self.problem = "a replayed step changes the weights differently"
        self._restore(after)
        self._reset(None)
        return result

    def _restore(self, values: Sequence[Tensor]) -> None:
        for tensor, value in zip(self.state(), values, strict=True):
            tensor.copy_(value)


def _tensors(batch: Batch) -> dict[str, Tensor]:
    """Return all tensors of a batch by name, also those of the mixed labels."""
    fields = batch._asdict() | (batch.mixed._asdict() if batch.mixed is not None else {})
    return {name: value for name, value in fields.items() if isinstance(value, Tensor)}


def _is_close(replayed: Tensor, expected: Tensor) -> bool:
    if not replayed.is_floating_point():
        return torch.equal(replayed, expected)
    return torch.allclose(
        replayed, expected, rtol=RELATIVE_TOLERANCE, atol=ABSOLUTE_TOLERANCE, equal_nan=True
    )
