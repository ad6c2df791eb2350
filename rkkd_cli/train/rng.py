"""Random number generators of one owner, although PyTorch's layers draw from global ones."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class IsolatedRng:
    """Generator states of one owner, swapped with the global ones while it computes.

    ``has_drawn`` tells whether the owner has drawn any random number so far.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        global_states = self._global_states()
        torch.manual_seed(seed)
        self.states = self._global_states()
        self._set_global_states(global_states)
        self.has_drawn = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Draw from the owner's generators inside this context.

        Generators cannot be changed while a CUDA graph is captured; then nothing may be drawn.
        """
        if self.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            yield
            return
        global_states, before = self._global_states(), self.states
        self._set_global_states(before)
        try:
            yield
        finally:
            self.states = self._global_states()
            self.has_drawn |= not all(map(torch.equal, before, self.states))
            self._set_global_states(global_states)

    def load(self, states: list[Tensor]) -> None:
        """Continue from saved states. Raises ValueError for those of another kind of device."""
        if len(states) != len(self.states):
            raise ValueError("its random generators are those of another kind of device")
        self.states = states

    def _global_states(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        elif self.device.type == "mps":
            states.append(torch.mps.get_rng_state())
        return states

    def _set_global_states(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self.device)
        elif self.device.type == "mps":
            torch.mps.set_rng_state(states[1])
