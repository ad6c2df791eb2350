"""What the images of a batch are to be classified as: a class each, or two mixed ones.

Shapes: B batch, C classes.
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F


class Mixed(NamedTuple):
    """The classes (B,) of the images that were mixed in, and the others' share, at least 1/2.

    The share is a scalar on the device: it is that of the whole batch.
    """

    other: Tensor
    share: Tensor


class Targets(NamedTuple):
    """The labels (B,): class numbers, of mixed images those with the larger share."""

    labels: Tensor
    mixed: Mixed | None = None

    def cross_entropy(
        self, logits: Tensor, label_smoothing: float = 0.0, reduction: str = "mean"
    ) -> Tensor:
        """Return the cross-entropy of logits (B, C), in nats.

        Of mixed images, with the share λ of the classes a over the classes b:

          λ · CE(a) + (1 − λ) · CE(b)

        With ``label_smoothing`` ε, a class is (1 − ε) of its own and ε / C of each.
        """

        def of(labels: Tensor) -> Tensor:
            return F.cross_entropy(
                logits, labels, reduction=reduction, label_smoothing=label_smoothing
            )

        if self.mixed is None:
            return of(self.labels)
        share = self.mixed.share
        return share * of(self.labels) + (1 - share) * of(self.mixed.other)

    def repeat(self, times: int) -> "Targets":
        """Return the targets of the same images so many times, one time after another."""
        mixed = self.mixed
        if mixed is not None:
            mixed = mixed._replace(other=mixed.other.repeat(times))
        return Targets(self.labels.repeat(times), mixed)
