"""Events and states, on their way between a worker and the process that records them."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from rkkd_cli.train.events import Checkpoint, Event

State = Mapping[str, Any]


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
