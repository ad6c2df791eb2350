"""Sums over an epoch, kept on the device and read once at its end."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rkkd_cli.tasks.task import HeldOutMetrics
from rkkd_cli.train.distributed.process_group import ProcessGroup


class NonFinite(NamedTuple):
    """A term that was NaN or infinite, and the first such step (from 1).

    ``step`` is None for a value of a held-out split.
    """

    term: str
    step: int | None


TENSOR_NAMES = ("sums", "correct", "finite", "finite_steps")


class EpochMeters:
    """Sums of named batch means and of correct counts, and when a mean first was not finite.

    Each mean is weighted by the number of images of its batch. Counts of images become percent.
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
        """The tensors on the device. They are never replaced, so a CUDA graph can write to them."""
        return [getattr(self, name) for name in TENSOR_NAMES]

    def reset(self) -> None:
        """Set everything to its initial value."""
        self.sums.zero_()
        self.correct.zero_()
        self.finite.fill_(True)
        self.finite_steps.zero_()
        self.images = 0

    def state(self) -> dict[str, Any]:
        """Return the state dict."""
        return {name: getattr(self, name) for name in (*TENSOR_NAMES, "images")}

    def load(self, state: Mapping[str, Any]) -> None:
        """Load a state dict."""
        for name in TENSOR_NAMES:
            getattr(self, name).copy_(state[name])
        self.images = state["images"]

    def add(self, means: Tensor, correct: Tensor, images: int) -> None:
        """Add a batch of so many images: its means and correct counts in the order of the names."""
        self.accumulate(means, correct, images)
        self.images += images

    def accumulate(self, means: Tensor, correct: Tensor, images: int) -> None:
        """Do the part of :meth:`add` that runs on the device; ``self.images`` stays as it is."""
        self.sums += means.to(self.sums.dtype) * images
        self.correct += correct
        self.finite &= torch.isfinite(means)
        self.finite_steps += self.finite

    def reduce(self, process_group: ProcessGroup) -> None:
        """Sum over all ranks, which have seen different images in different steps."""
        if process_group.world_size == 1:
            return
        images = torch.tensor(self.images, device=self.device)
        non_finite = (~self.finite).long()
        process_group.all_reduce([self.sums, self.correct, images, non_finite, self.finite_steps])
        self.images = int(images)
        self.finite.copy_(non_finite == 0)

    def averages(self) -> dict[str, float]:
        """Return the means over all images, and the counts in percent. Waits for the device."""
        means = [value / self.images for value in self.sums.tolist()]
        percents = [100 * count / self.images for count in self.correct.tolist()]
        names = self.mean_names + self.correct_names
        return dict(zip(names, means + percents, strict=True))

    def first_non_finite(self) -> NonFinite | None:
        """Return the mean that was NaN or infinite first, if any was. Waits for the device."""
        finite, finite_steps = self.finite.tolist(), self.finite_steps.tolist()
        diverged = [index for index, is_finite in enumerate(finite) if not is_finite]
        if not diverged:
            return None
        first = min(diverged, key=lambda index: finite_steps[index])
        return NonFinite(self.mean_names[first], finite_steps[first] + 1)


class SplitMeters(EpochMeters):
    """The sums over a held-out split, and the task's metrics of all its outputs."""

    def __init__(
        self,
        means: Sequence[str],
        correct: Sequence[str],
        device: torch.device,
        whole: HeldOutMetrics,
    ) -> None:
        super().__init__(means, correct, device)
        self.whole = whole

    def reduce(self, process_group: ProcessGroup) -> None:
        """Sum over all ranks."""
        super().reduce(process_group)
        self.whole.reduce(process_group)

    def averages(self) -> dict[str, float]:
        """Return the means, and what the task measures. Waits for the device."""
        return super().averages() | self.whole.values()
