"""Embeddings: a batch's images are each other's classes.

A row of image i has a logit for each other image j of the batch: −‖e_i − e_j‖², of its embedding e.

Shapes: A arms, B batch, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rkkd_cli.config.objective import TripletConfig
from rkkd_cli.config.tasks import EMBEDDING
from rkkd_cli.config.training import TrainingConfig
from rkkd_cli.data.targets import Targets
from rkkd_cli.losses.geometry import similarity_rows
from rkkd_cli.losses.triplet import triplet_loss, triplet_per_image
from rkkd_cli.methods.hard_term import HardTerm
from rkkd_cli.models import Features
from rkkd_cli.tasks.retrieval import first_queries, nearest_to, retrieval_metrics
from rkkd_cli.tasks.task import HeldOutRows, Neighbours, Ranks, Task

MAX_NEIGHBOURS = 8


@dataclass(frozen=True)
class Triplet:
    """The triplet loss of the embedding."""

    config: TripletConfig
    name = "triplet"
    others = ()

    @property
    def held_out(self) -> "Triplet":
        """The term on held-out images: the same."""
        return self

    @property
    def settings(self) -> tuple[str, ...]:
        """What is unusual about it, in words."""
        given = self.config.model_dump(exclude_defaults=True)
        return tuple(f"{name} {value}" for name, value in given.items())

    def loss(self, student: Features, targets: Targets) -> Tensor:
        """Return the mean over the batch's triplets."""
        return triplet_loss(student.pooled, targets.labels, **self.config.model_dump())


class Embeddings:
    """The embeddings of a split, which is searched as a whole."""

    def __init__(self) -> None:
        self.outputs: list[Tensor] = []
        self.labels: list[Tensor] = []

    def add(self, rows: HeldOutRows) -> None:
        """Keep a batch of embeddings (B, D) and labels (B,)."""
        self.outputs.append(rows.outputs.float())
        self.labels.append(rows.targets.labels)

    def reduce(self, ranks: Ranks) -> None:
        """Do nothing: one process has seen the whole split."""

    def values(self) -> dict[str, float]:
        """Return the retrieval metrics in percent. Waits for the device."""
        return retrieval_metrics(torch.cat(self.outputs), torch.cat(self.labels)).columns

    def is_collapsed(self) -> bool:
        """Return whether all embeddings are equal. Waits for the device."""
        outputs = torch.cat(self.outputs)
        return bool((outputs == outputs[:1]).all())

    def neighbours(self) -> Neighbours:
        """Return the first image of each of six classes, with its eight nearest images."""
        outputs, labels = torch.cat(self.outputs), torch.cat(self.labels)
        queries = first_queries(labels)
        found = nearest_to(queries, outputs, min(MAX_NEIGHBOURS, len(labels) - 1))
        indices = torch.cat([queries[:, None], found], dim=1)
        return Neighbours(indices.cpu(), labels[indices].cpu())


class Embedding(Task):
    """The task of a model whose outputs are compared by distance."""

    records = EMBEDDING
    compares_images = True
    counts_of_labels = ()
    counts_in_training = ("agreement",)
    counts_held_out = ()
    output_name = "embedding"
    evaluation_batch = 128
    evaluation_rest = "merge"

    def __init__(self, triplet: TripletConfig) -> None:
        self.triplet = triplet

    def rows(self, outputs: Tensor) -> Tensor:
        """Return −‖e_i − e_j‖² for all j ≠ i, (…, B, B − 1), of embeddings (…, B, D)."""
        return similarity_rows(outputs)

    def features(self, features: Features) -> Features:
        """Return the features with the rows as logits, and the embedding as pooled features."""
        embedding = features.logits
        return features._replace(pooled=embedding, logits=self.rows(embedding))

    def hard_term(self, recipe: TrainingConfig) -> Triplet:
        """Return the triplet loss."""
        return Triplet(self.triplet)

    def hard_values(
        self, terms: Sequence[HardTerm], outputs: Sequence[Tensor], targets: Targets
    ) -> Tensor:
        """Return each image's part in each arm's triplet loss, (A, B), of embeddings (B, D)."""
        settings = self.triplet.model_dump()
        return torch.stack(
            [triplet_per_image(one.float(), targets.labels, **settings) for one in outputs]
        )

    def count_right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return nothing, (0,): an embedding alone is neither right nor wrong."""
        return labels.new_empty(0)

    def count(self, students: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return for how many images student and teacher have the same nearest neighbour."""
        same = students.argmax(dim=-1) == teacher.argmax(dim=-1)
        return {"agreement": same.sum(dim=1)}

    def held_out_metrics(self, outputs: int, device: torch.device) -> Embeddings:
        """Return what keeps the embeddings."""
        return Embeddings()

    def teacher_facts(self, outputs: Tensor, labels: Tensor) -> dict[str, Any]:
        """Return the retrieval metrics of embeddings (N, D) in percent."""
        values = retrieval_metrics(outputs, labels).columns
        return {f"test_{name}": value for name, value in values.items()} | {
            "test_images": len(labels)
        }
