"""What a task gives to the training, which names none.

Shapes: A arms, B batch, C columns of a row of logits, D outputs of a model.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from rkkd_cli.config.tasks import TaskRecords
from rkkd_cli.config.training import TrainingConfig
from rkkd_cli.data.detection.objects import Objects
from rkkd_cli.data.targets import Targets
from rkkd_cli.methods.hard_term import HardTerm
from rkkd_cli.models import Features
from rkkd_cli.models.detection.detector import Detections


class Ranks(Protocol):
    """The processes that share a held-out split."""

    def all_reduce(self, tensors: list[Tensor]) -> None:
        """Sum each tensor over all of them, in place."""


class Neighbours(NamedTuple):
    """Some images of a split, the queries, and the images nearest to them.

    ``indices`` (Q, 1 + K) in the split: the query, then its neighbours, nearest first. ``labels``
    (Q, 1 + K): their classes.
    """

    indices: Tensor
    labels: Tensor


class FoundInImage(NamedTuple):
    """The detections in an image by its number, and its objects, in its original pixels."""

    number: int
    detections: Detections
    objects: Objects


class HeldOutRows(NamedTuple):
    """A student's outputs (B, D) on a held-out batch, their labels, and what a detector finds."""

    outputs: Tensor
    targets: Targets
    found: Sequence[FoundInImage] = ()


class HeldOutMetrics(Protocol):
    """What is kept of a student's outputs on a held-out split, batch by batch."""

    def add(self, rows: HeldOutRows) -> None:
        """Take in a batch."""

    def reduce(self, ranks: Ranks) -> None:
        """Take in what the other processes have seen."""

    def values(self) -> dict[str, float]:
        """Return metrics of the whole split, in percent. Waits for the device."""

    def is_collapsed(self) -> bool:
        """Return whether all images get the same output. Waits for the device."""

    def neighbours(self) -> Neighbours | None:
        """Return some queries with what they find, of a task that searches."""


class Task(ABC):
    """Rows of logits, hard term and metrics. It holds settings, and no state.

    ``compares_images``: the rows of a batch compare its images with each other.
    ``rows_are_regions``: the rows are at places in the images, which a model has to choose.
    ``row_shares``: the names of :meth:`row_values`.
    ``counts_in_training``, ``counts_held_out``: the shares of images that are recorded;
    ``counts_of_labels``: those of a teacher in training.
    ``output_name``: what an output is called where all images get the same.
    ``evaluation_batch``: the images of a held-out batch; ``evaluation_rest``: what becomes of a
    smaller last one.
    """

    records: ClassVar[TaskRecords]
    compares_images: ClassVar[bool]
    rows_are_regions: ClassVar[bool] = False
    row_shares: ClassVar[tuple[str, ...]] = ()
    counts_of_labels: ClassVar[tuple[str, ...]]
    counts_in_training: ClassVar[tuple[str, ...]]
    counts_held_out: ClassVar[tuple[str, ...]]
    output_name: ClassVar[str]
    evaluation_batch: ClassVar[int]
    evaluation_rest: ClassVar[str]

    @abstractmethod
    def rows(self, outputs: Tensor) -> Tensor:
        """Return the rows of logits (…, B, C) of a model's outputs (…, B, D) on a batch."""

    @abstractmethod
    def features(self, features: Features) -> Features:
        """Return the features with rows as their logits."""

    @abstractmethod
    def hard_term(self, recipe: TrainingConfig) -> HardTerm:
        """Return the term of the labels alone."""

    @abstractmethod
    def hard_values(
        self, terms: Sequence[HardTerm], outputs: Sequence[Tensor], targets: Targets
    ) -> Tensor:
        """Return each arm's hard term, (A, B), whose means over the images are recorded.

        ``outputs`` are those of each arm, (B, D).
        """

    @abstractmethod
    def count_right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the numbers of images (n,) of outputs (B, D), as ``counts_of_labels`` says."""

    @abstractmethod
    def count(self, students: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the numbers of images, (A,) by name, of rows (A, B, C).

        The teacher's rows are (B, C), or (A, B, C) where arms differ.
        """

    def row_values(self, students: Tensor, teacher: Tensor) -> list[Tensor]:
        """Return further values of each row (A, B), as ``row_shares`` says, of rows (A, B, C)."""
        return []

    @abstractmethod
    def held_out_metrics(self, outputs: int, device: torch.device) -> HeldOutMetrics:
        """Return what a student with so many outputs is measured by on a held-out split."""

    @abstractmethod
    def teacher_facts(self, outputs: Tensor, labels: Tensor) -> dict[str, Any]:
        """Return what the records say of a teacher's outputs (N, D) on the test images."""
