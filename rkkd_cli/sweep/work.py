"""What a worker does, wherever it is: train one job, and tell what happens."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from rkkd_cli.sweep.jobs import Job
from rkkd_cli.sweep.local import run_job
from rkkd_cli.sweep.sources import Sources
from rkkd_cli.sweep.wire import PackedCheckpoint, pack, unpack_state
from rkkd_cli.train.device import (
    keep_freed_memory,
    pick_device,
    use_deterministic_algorithms,
    use_threads,
)
from rkkd_cli.train.events import BatchDone, Event, Tick
from rkkd_cli.train.pace import Pace

SECONDS_BETWEEN_TICKS = 0.25

Packed = Event | PackedCheckpoint


@dataclass(frozen=True)
class Settings:
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


def attempt(job: Job, sources: Sources, state: bytes | None, pace: Pace) -> Iterator[Packed]:
    """Train the job from its state; yield packed events, of mere progress only some.

    Raises Stopped after the checkpoint if ``pace`` says so.
    """
    begun = None if state is None else unpack_state(state)
    last = 0.0
    for event in run_job(job, sources, begun, pace):
        now = time.monotonic()
        if isinstance(event, BatchDone | Tick):
            if now - last < SECONDS_BETWEEN_TICKS:
                continue
            last = now
        yield pack(event)
