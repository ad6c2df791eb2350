"""What a worker does, wherever it is: one thing at a time, and tell what happens.

Events and checkpoints travel packed between it and the process that records them.
"""

import io
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from rkkd_cli.errors import RunError
from rkkd_cli.train.device import (
    keep_freed_memory,
    pick_device,
    use_deterministic_algorithms,
    use_threads,
)
from rkkd_cli.train.events import BatchDone, Checkpoint, Event, Tick
from rkkd_cli.train.stop_controller import Stopped

SECONDS_BETWEEN_TICKS = 0.25

# A message is one of these words and what belongs to it: a packed event, the result, a reason.
EVENT, DONE, STOPPED, FAILED = "event", "done", "stopped", "failed"
Message = tuple[str, Any]
State = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker computes: the same as the process that records."""

    device: str
    threads: int
    deterministic: bool
    minutes: float

    def apply(self) -> torch.device:
        """Let this process compute so; return its device."""
        use_threads(self.threads)
        device = pick_device(self.device)
        keep_freed_memory()
        use_deterministic_algorithms(device, self.deterministic)
        return device


def messages(events: Generator[Event, None, Any]) -> Iterator[Message]:
    """Yield what happens, of mere progress only some, and last how it ended."""
    try:
        result = yield from _sparingly(events)
    except Stopped:
        yield STOPPED, None
    except (RuntimeError, MemoryError, ValueError, OSError) as error:
        yield FAILED, told(error)
    else:
        yield DONE, result


def _sparingly(events: Generator[Event, None, Any]) -> Generator[Message, None, Any]:
    last = 0.0
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return end.value
        now = time.monotonic()
        if isinstance(event, BatchDone | Tick):
            if now - last < SECONDS_BETWEEN_TICKS:
                continue
            last = now
        yield EVENT, pack(event)


def silently(events: Generator[Event, None, T]) -> T:
    """Return what the events lead to; whoever records has told of them already."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            result: T = end.value
            return result


def told(error: BaseException) -> str:
    """Return an error as one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, RunError) else f"{type(error).__name__}: {text}"


def check_sources(found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Raise RunError where a worker has other images or another teacher than it should."""
    if found != expected:
        raise RunError("this worker reads other images or another teacher; the files have changed")


def pack_state(state: State) -> bytes:
    """Return a checkpoint's tensors and containers as bytes, wherever the tensors are."""
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def unpack_state(content: bytes) -> dict[str, Any]:
    """Return the state, on the CPU."""
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


@dataclass(frozen=True)
class PackedCheckpoint:
    """A checkpoint on its way: its tensors go by value, whoever reads them may be elsewhere."""

    stream: str
    content: bytes


def pack(event: Event) -> Event | PackedCheckpoint:
    """Return an event as it travels."""
    if isinstance(event, Checkpoint):
        return PackedCheckpoint(event.stream, pack_state(event.state))
    return event


def unpack(packed: Event | PackedCheckpoint) -> Event:
    """Return the event that has arrived."""
    if isinstance(packed, PackedCheckpoint):
        return Checkpoint(packed.stream, unpack_state(packed.content))
    return packed
