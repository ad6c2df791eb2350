"""Generators that belong to one owner, although torch's layers draw from global ones."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Randomness:
    """Swaps an owner's own generator states in while it computes, and out again.

    ``drew`` tells whether the owner has drawn anything so far.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        outside = self._states()
        torch.manual_seed(seed)
        self.states = self._states()
        self._restore(outside)
        self.drew = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let everything inside draw from this owner's generators only.

        While a CUDA graph is recorded they cannot be touched, and nothing must be drawn.
        """
        if self.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            yield
            return
        outside, before = self._states(), self.states
        self._restore(before)
        try:
            yield
        finally:
            self.states = self._states()
            self.drew |= not all(map(torch.equal, before, self.states))
            self._restore(outside)

    def load(self, states: list[Tensor]) -> None:
        """Go on from earlier states. Raises ValueError for those of another kind of device."""
        if len(states) != len(self.states):
            raise ValueError("its generators are those of another kind of device")
        self.states = states

    def _states(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        elif self.device.type == "mps":
            states.append(torch.mps.get_rng_state())
        return states

    def _restore(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self.device)
        elif self.device.type == "mps":
            torch.mps.set_rng_state(states[1])
