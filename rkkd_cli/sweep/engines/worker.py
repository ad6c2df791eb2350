"""What a worker does, wherever it runs: one task at a time, reported as a stream of messages.

Events and checkpoints are serialised on their way to the process that records them.
"""

import io
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import RunError
from rkkd_cli.train.device import (
    keep_freed_memory,
    pick_device,
    use_deterministic_algorithms,
    use_threads,
)
from rkkd_cli.train.events import BatchDone, Checkpoint, Event, Tick
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import Stopped

TICK_SECONDS = 0.25

# A message is one of these words and its content: a serialised event, the result, a reason.
EVENT, DONE, STOPPED, FAILED = "event", "done", "stopped", "failed"
Message = tuple[str, Any]
State = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker computes, which is how the recording process does.

    ``minutes`` are those between two checkpoints within an epoch.
    """

    device: str
    threads: int
    deterministic: bool
    minutes: float

    @classmethod
    def like_this_process(
        cls, device: str, experiments: Iterable[Experiment], runtime: Runtime
    ) -> Self:
        """Return this process' options for workers that train these experiments on ``device``."""
        deterministic = any(experiment.deterministic for experiment in experiments)
        return cls(device, torch.get_num_threads(), deterministic, runtime.controller.minutes)

    def apply(self) -> torch.device:
        """Set this process up so; return its device."""
        use_threads(self.threads)
        device = pick_device(self.device)
        keep_freed_memory()
        use_deterministic_algorithms(device, self.deterministic)
        return device


def messages(events: Generator[Event, None, Any]) -> Iterator[Message]:
    """Yield the events, progress ticks thinned out, and last how the work ended."""
    try:
        result = yield from _throttled(events)
    except Stopped:
        yield STOPPED, None
    except (RuntimeError, MemoryError, ValueError, OSError) as error:
        yield FAILED, error_line(error)
    else:
        yield DONE, result


def _throttled(events: Generator[Event, None, Any]) -> Generator[Message, None, Any]:
    last = 0.0
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return end.value
        now = time.monotonic()
        if isinstance(event, BatchDone | Tick):
            if now - last < TICK_SECONDS:
                continue
            last = now
        yield EVENT, serialize(event)


def result_of(events: Generator[Event, None, T]) -> T:
    """Return the result of a generator of events; the events were recorded elsewhere before."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            result: T = end.value
            return result


def error_line(error: BaseException) -> str:
    """Return an error as one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, RunError) else f"{type(error).__name__}: {text}"


def check_sources(found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Raise RunError where a worker has other images or another teacher than it should."""
    if found != expected:
        raise RunError("this worker reads other images or another teacher; the files have changed")


def serialize_state(state: State) -> bytes:
    """Return a checkpoint's tensors and containers as bytes."""
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def deserialize_state(content: bytes) -> dict[str, Any]:
    """Return the state, on the CPU."""
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


@dataclass(frozen=True)
class SerializedCheckpoint:
    """A checkpoint whose tensors travel by value: the reader may be on another machine."""

    stream: str
    content: bytes


def serialize(event: Event) -> Event | SerializedCheckpoint:
    """Return an event in the form that travels."""
    if isinstance(event, Checkpoint):
        return SerializedCheckpoint(event.stream, serialize_state(event.state))
    return event


def deserialize(packed: Event | SerializedCheckpoint) -> Event:
    """Return an event that has arrived."""
    if isinstance(packed, SerializedCheckpoint):
        return Checkpoint(packed.stream, deserialize_state(packed.content))
    return packed
