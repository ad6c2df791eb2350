"""What every worker does: one task at a time, reported as a stream of messages.

Events and checkpoints are serialised on their way to the process that records them.
"""

import io
import os
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import torch

from rkkd_cli.config.experiment import Experiment, StudentConfig
from rkkd_cli.config.untrusted import named_code
from rkkd_cli.errors import RunError
from rkkd_cli.plugins import source_hash
from rkkd_cli.train.configured_model import weights_sha256
from rkkd_cli.train.device import (
    keep_freed_memory,
    pick_device,
    use_deterministic_algorithms,
    use_threads,
)
from rkkd_cli.train.events import BatchDone, Checkpoint, Event, Tick
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import Stopped

MIN_TICK_SECONDS = 0.25  # between two events that only show progress

# A message is one of these kinds with a serialised event, the result, nothing, or a reason.
EVENT, DONE, STOPPED, FAILED = "event", "done", "stopped", "failed"
Message = tuple[str, Any]
State = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker computes: as the recording process does.

    ``minutes`` are those between two checkpoints within an epoch. ``folder`` is the working folder,
    ``code`` the hash of each piece of code of the user's, ``weights`` that of the first weights of
    each student that has some.
    """

    device: str
    threads: int
    deterministic: bool
    minutes: float
    folder: str
    code: Mapping[tuple[str, str], str]
    weights: Mapping[StudentConfig, str | None]

    @classmethod
    def like_this_process(
        cls, device: str, experiments: Iterable[Experiment], runtime: Runtime
    ) -> Self:
        """Return this process's options, for workers that train the experiments on ``device``."""
        experiments = list(experiments)
        return cls(
            device=device,
            threads=torch.get_num_threads(),
            deterministic=any(experiment.deterministic for experiment in experiments),
            minutes=runtime.controller.minutes,
            folder=str(Path.cwd()),
            code={named: source_hash(*named) for named in named_code(experiments)},
            weights={
                student: weights_sha256(student)
                for student in dict.fromkeys(experiment.student for experiment in experiments)
                if student.weights is not None
            },
        )

    def apply(self) -> torch.device:
        """Set up this process; return its device.

        Raises RunError for other code of the user's, or other weights.
        """
        with suppress(OSError):  # another node may lack the folder
            os.chdir(self.folder)
        for (kind, spec), expected in self.code.items():
            if source_hash(kind, spec) != expected:
                raise RunError(
                    f"a worker reads other code than the run began with: {spec} has changed, or "
                    "is another one on its node"
                )
        for student, sha256 in self.weights.items():
            if weights_sha256(student) != sha256:
                raise RunError(
                    f"a worker finds other weights {student.weights} of {student.model} than the "
                    "run began with; put the same file on every node"
                )
        use_threads(self.threads)
        device = pick_device(self.device)
        keep_freed_memory()
        use_deterministic_algorithms(device, self.deterministic)
        return device


def messages(events: Generator[Event, None, Any]) -> Iterator[Message]:
    """Yield the events, with fewer progress events, and finally how the work ended."""
    try:
        result = yield from _throttle(events)
    except Stopped:
        yield STOPPED, None
    except (RuntimeError, MemoryError, ValueError, OSError) as error:
        yield FAILED, error_line(error)
    else:
        yield DONE, result


def _throttle(events: Generator[Event, None, Any]) -> Generator[Message, None, Any]:
    last_tick = 0.0
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return end.value
        now = time.monotonic()
        if isinstance(event, BatchDone | Tick):
            if now - last_tick < MIN_TICK_SECONDS:
                continue
            last_tick = now
        yield EVENT, serialize(event)


def drain(events: Generator[Event, None, T]) -> T:
    """Return the result of a generator; its events have been recorded elsewhere."""
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


def check_sources(fingerprints: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Raise RunError if a worker has other images or another teacher than it should."""
    if fingerprints != expected:
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
    """A checkpoint as bytes, since its reader may be on another machine."""

    stream: str
    content: bytes


def serialize(event: Event) -> Event | SerializedCheckpoint:
    """Return an event in the form that is sent."""
    if isinstance(event, Checkpoint):
        return SerializedCheckpoint(event.stream, serialize_state(event.state))
    return event


def deserialize(message: Event | SerializedCheckpoint) -> Event:
    """Return an event that has arrived."""
    if isinstance(message, SerializedCheckpoint):
        return Checkpoint(message.stream, deserialize_state(message.content))
    return message
