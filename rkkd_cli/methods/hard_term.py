"""The term of the labels alone, and that of a classifier.

Shapes: B batch, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from rkkd_cli.data.targets import Targets
from rkkd_cli.models import Features


class HardTerm(Protocol):
    """The term of the labels alone, which methods call ``ce`` whatever the task's is.

    ``settings`` are the unusual ones, in words; ``held_out`` is the term on held-out images;
    ``others`` are further terms of the labels, of weight 1, which the model computes itself.
    """

    @property
    def name(self) -> str:
        """The name of its column."""

    @property
    def settings(self) -> Sequence[str]:
        """The unusual settings, in words."""

    @property
    def others(self) -> Sequence[str]:
        """The further terms of the labels."""

    @property
    def held_out(self) -> "HardTerm":
        """The term on held-out images."""

    def loss(self, student: Features, targets: Targets) -> Tensor:
        """Return the mean over the batch."""


@dataclass(frozen=True)
class CrossEntropy:
    """The cross-entropy of an image's class, with ``label_smoothing`` in training."""

    label_smoothing: float = 0.0
    name = "ce"
    others: tuple[str, ...] = ()

    @property
    def held_out(self) -> "CrossEntropy":
        """The term on held-out images."""
        return CrossEntropy()

    @property
    def settings(self) -> tuple[str, ...]:
        """What is unusual about it, in words."""
        return (f"label smoothing {self.label_smoothing:g}",) if self.label_smoothing else ()

    def loss(self, student: Features, targets: Targets) -> Tensor:
        """Return the mean over the batch, in nats."""
        return targets.cross_entropy(student.logits, self.label_smoothing)


CROSS_ENTROPY = CrossEntropy()
