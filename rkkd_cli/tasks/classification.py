"""Classification: a row is an image's logits, one for each class.

Shapes: A arms, B batch, C classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rkkd_cli.config.tasks import CLASSIFICATION
from rkkd_cli.config.training import TrainingConfig
from rkkd_cli.data.targets import Targets
from rkkd_cli.methods.hard_term import CrossEntropy, HardTerm
from rkkd_cli.models import Features
from rkkd_cli.tasks.task import HeldOutRows, Neighbours, Ranks, Task


class PredictedClasses:
    """How often each class is predicted."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self.classes = torch.arange(classes, device=device)
        self.predictions = torch.zeros(classes, dtype=torch.int64, device=device)

    def add(self, rows: HeldOutRows) -> None:
        """Count the classes that logits (B, C) predict."""
        self.predictions += (rows.outputs.argmax(dim=1)[:, None] == self.classes).sum(dim=0)

    def reduce(self, ranks: Ranks) -> None:
        """Sum over all ranks."""
        ranks.all_reduce([self.predictions])

    def values(self) -> dict[str, float]:
        """Return nothing: accuracies are counted batch by batch."""
        return {}

    def is_collapsed(self) -> bool:
        """Return whether all images get the same class. Waits for the device."""
        return int((self.predictions > 0).sum()) == 1

    def neighbours(self) -> Neighbours | None:
        """Return nothing: no image is searched for."""
        return None


class Classification(Task):
    """The task of a classifier."""

    records = CLASSIFICATION
    compares_images = False
    counts_of_labels = ("acc",)
    counts_in_training = ("agreement", "acc")
    counts_held_out = ("acc", "top5")
    output_name = "class"
    evaluation_batch = 500
    evaluation_rest = "keep"

    def rows(self, outputs: Tensor) -> Tensor:
        """Return the logits as they are."""
        return outputs

    def features(self, features: Features) -> Features:
        """Return the features as they are."""
        return features

    def hard_term(self, recipe: TrainingConfig) -> CrossEntropy:
        """Return the cross-entropy."""
        return CrossEntropy(recipe.label_smoothing)

    def hard_values(
        self, terms: Sequence[HardTerm], outputs: Sequence[Tensor], targets: Targets
    ) -> Tensor:
        """Return the cross-entropy of each arm and image, (A, B), of each arm's logits (B, C)."""
        smoothings = [term.label_smoothing for term in terms if isinstance(term, CrossEntropy)]
        if any(smoothings):
            pairs = zip(outputs, smoothings, strict=True)
            return torch.stack([targets.cross_entropy(*pair, reduction="none") for pair in pairs])
        joined = targets.repeat(len(outputs)).cross_entropy(torch.cat([*outputs]), reduction="none")
        return joined.view(len(outputs), -1)

    def count_right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the number of logits (B, C) that are right, (1,)."""
        return (outputs.argmax(dim=1) == labels).sum()[None]

    def count(self, students: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return how many images student and teacher predict alike, and how many are right.

        With fewer than five classes, ``top5`` considers all of them.
        """
        top5 = students.topk(min(5, students.shape[2]), dim=2).indices
        return {
            "agreement": (top5[..., 0] == teacher.argmax(dim=-1)).sum(dim=1),
            "acc": (top5[..., 0] == labels).sum(dim=1),
            "top5": (top5 == labels[:, None]).sum(dim=(1, 2)),
        }

    def held_out_metrics(self, outputs: int, device: torch.device) -> PredictedClasses:
        """Return counts of the predicted classes."""
        return PredictedClasses(outputs, device)

    def teacher_facts(self, outputs: Tensor, labels: Tensor) -> dict[str, Any]:
        """Return the accuracy of logits (N, C) in percent.

        ``chance`` is the accuracy of always guessing the most frequent class.
        """
        correct = outputs.argmax(dim=1) == labels
        return {
            "test_acc": 100 * int(correct.sum()) / len(labels),
            "test_images": len(labels),
            "chance": 100 * int(torch.bincount(labels).max()) / len(labels),
        }
