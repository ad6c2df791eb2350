"""Detection: a row is a region's logits, one for each class, of two stages also for background.

Shapes: A arms, R regions of a batch, C columns of a row.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rkkd_cli.config.tasks import DETECTION, DETECTOR_TERMS
from rkkd_cli.config.training import TrainingConfig
from rkkd_cli.data.targets import Targets
from rkkd_cli.methods.hard_term import CrossEntropy, HardTerm
from rkkd_cli.models import Features
from rkkd_cli.tasks.average_precision import AveragePrecision
from rkkd_cli.tasks.task import HeldOutRows, Neighbours, Ranks, Task


class FoundInSplit:
    """The boxes that are found in a split."""

    def __init__(self) -> None:
        self.found = AveragePrecision()

    def add(self, rows: HeldOutRows) -> None:
        """Keep the detections of a batch."""
        for image in rows.found:
            self.found.add(image.detections, image.objects, image.number)

    def reduce(self, ranks: Ranks) -> None:
        """Do nothing: one process has seen the whole split."""

    def values(self) -> dict[str, float]:
        """Return COCO's metrics in percent, but those of a size that no object has."""
        return self.found.values()

    def is_collapsed(self) -> bool:
        """Return False: a detector that finds nothing has an AP of 0, which says so."""
        return False

    def neighbours(self) -> Neighbours | None:
        """Return nothing: no image is searched for."""
        return None


class Detection(Task):
    """The task of a detector of a kind, such as ``fasterrcnn``."""

    records = DETECTION
    compares_images = False
    rows_are_regions = True
    row_shares = ("agreement",)
    counts_of_labels = ()
    counts_in_training = ()
    counts_held_out = ()
    output_name = "class"
    evaluation_batch = 8
    evaluation_rest = "keep"

    def __init__(self, kind: str, shares_proposals: bool) -> None:
        self.kind, self.shares_proposals = kind, shares_proposals

    def rows(self, outputs: Tensor) -> Tensor:
        """Return the logits as they are."""
        return outputs

    def features(self, features: Features) -> Features:
        """Return the features as they are."""
        return features

    def hard_term(self, recipe: TrainingConfig) -> CrossEntropy:
        """Return the term of the regions' classes, with those of the boxes beside it."""
        return CrossEntropy(others=DETECTOR_TERMS[self.kind])

    def hard_values(
        self, terms: Sequence[HardTerm], outputs: Sequence[Tensor], targets: Targets
    ) -> Tensor:
        """Return the cross-entropy of each arm and region, (A, R), of each arm's logits (R, C)."""
        return torch.stack([targets.cross_entropy(one, reduction="none") for one in outputs])

    def count_right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return nothing, (0,)."""
        return labels.new_empty(0)

    def count(self, students: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return nothing: there are shares of regions instead."""
        return {}

    def row_values(self, students: Tensor, teacher: Tensor) -> list[Tensor]:
        """Return 100 for the regions (A, R) that student and teacher give the same class."""
        same = students.argmax(dim=-1) == teacher.argmax(dim=-1)
        return [100.0 * same.to(students.dtype)]

    def held_out_metrics(self, outputs: int, device: torch.device) -> FoundInSplit:
        """Return what keeps the boxes."""
        return FoundInSplit()

    def teacher_facts(self, outputs: Tensor, labels: Tensor) -> dict[str, Any]:
        """Return nothing: a detector's facts are measured on the images."""
        return {}
