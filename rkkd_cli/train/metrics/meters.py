"""Sums over an epoch, kept on the device and read once."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rkkd_cli.train.distributed.process_group import ProcessGroup


class NonFinite(NamedTuple):
    """The first step (from 1) at which a term was NaN or infinite."""

    term: str
    step: int


TENSORS = ("sums", "correct", "finite", "finite_steps")


class EpochMeters:
    """Sums of named batch means and of hits, and when a mean first stopped being finite.

    Means are weighted by their batch's images; hits (counts of images) become percent.
    """

    def __init__(self, means: Sequence[str], correct: Sequence[str], device: torch.device) -> None:
        self.mean_names, self.correct_names, self.device = tuple(means), tuple(correct), device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(len(self.mean_names), dtype=dtype, device=device)
        self.correct = torch.zeros(len(self.correct_names), dtype=torch.int64, device=device)
        self.finite = torch.ones(len(self.mean_names), dtype=torch.bool, device=device)
        self.finite_steps = torch.zeros(len(self.mean_names), dtype=torch.int64, device=device)
        self.images = 0

    @property
    def tensors(self) -> list[Tensor]:
        """All that is on the device; always the same tensors, which a CUDA graph writes to."""
        return [getattr(self, name) for name in TENSORS]

    def reset(self) -> None:
        """Begin again from nothing."""
        self.sums.zero_()
        self.correct.zero_()
        self.finite.fill_(True)
        self.finite_steps.zero_()
        self.images = 0

    def state(self) -> dict[str, Any]:
        """Return all sums as plain containers."""
        return {name: getattr(self, name) for name in (*TENSORS, "images")}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go back to earlier sums."""
        for name in TENSORS:
            getattr(self, name).copy_(state[name])
        self.images = state["images"]

    def add(self, values: Mapping[str, Tensor], images: int) -> None:
        """Add one batch: the mean of every name of means, the count of every name of hits."""
        means = torch.stack([values[name].detach() for name in self.mean_names])
        self.add_row(means, torch.stack([values[name] for name in self.correct_names]), images)

    def add_row(self, means: Tensor, correct: Tensor, images: int) -> None:
        """Add one batch whose means and counts stand in the order of their names."""
        self.accumulate(means, correct, images)
        self.images += images

    def accumulate(self, means: Tensor, correct: Tensor, images: int) -> None:
        """Do what :meth:`add_row` does on the device; the images are left to be counted."""
        self.sums += means.to(self.sums.dtype) * images
        self.correct += correct
        self.finite &= torch.isfinite(means)
        self.finite_steps += self.finite

    def reduce(self, process_group: ProcessGroup) -> None:
        """Add the sums of all ranks, each of which has seen other images in steps of its own."""
        if process_group.world_size == 1:
            return
        images = torch.tensor(self.images, device=self.device)
        non_finite = (~self.finite).long()
        process_group.all_reduce([self.sums, self.correct, images, non_finite], [self.finite_steps])
        self.images = int(images)
        self.finite.copy_(non_finite == 0)

    def averages(self) -> dict[str, float]:
        """Return the averages over all images so far, hits in percent. Waits for the device."""
        means = [value / self.images for value in self.sums.tolist()]
        percents = [100 * count / self.images for count in self.correct.tolist()]
        names = self.mean_names + self.correct_names
        return dict(zip(names, means + percents, strict=True))

    def first_non_finite(self) -> NonFinite | None:
        """Return the earliest mean that was NaN or infinite, if any. Waits for the device."""
        columns = (self.mean_names, self.finite.tolist(), self.finite_steps.tolist())
        bad = [
            NonFinite(name, steps + 1) for name, ok, steps in zip(*columns, strict=True) if not ok
        ]
        return min(bad, key=lambda one: one.step, default=None)
