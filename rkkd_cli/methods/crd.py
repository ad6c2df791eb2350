"""Contrastive representation distillation (Tian et al., arXiv 1910.10699)."""

import math

import torch
from torch import Tensor, nn

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig
from rkkd_cli.config.methods import CRDConfig
from rkkd_cli.losses import contrastive_log_z, contrastive_loss, updated_rows
from rkkd_cli.losses.geometry import unit_vectors
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, ModelPair


class EmbeddingMemory(nn.Module):
    """One model's embedding of pooled features, its memory bank of all images, and its log Z."""

    def __init__(self, width: int, features: int, images: int) -> None:
        super().__init__()
        self.embed = nn.Linear(width, features)
        bound = 1 / math.sqrt(features / 3)
        memory = torch.empty(images, features).uniform_(-bound, bound)
        self.memory: Tensor
        self.log_z: Tensor
        self.register_buffer("memory", memory)
        self.register_buffer("log_z", torch.full((), math.nan))

    def forward(self, pooled: Tensor) -> Tensor:
        """Return embeddings (B, features) of length 1."""
        embedded: Tensor = self.embed(pooled)
        return unit_vectors(embedded)


class CRD(Method):
    """CE + weight·(student against the teacher's memory + teacher against the student's).

    The positive of an image is the image itself (RepDistiller's mode "exact"). Its negatives are
    drawn with replacement from the images of other classes; RepDistiller draws without replacement
    if there are enough. The memory banks are buffers, so checkpoints keep them.
    """

    Config = CRDConfig
    terms = ("crd",)
    reads_epoch = False
    needs_features = True
    has_memory_bank = True
    config: CRDConfig

    def __init__(self, method_config: MethodConfig, config: FrozenConfig, pair: ModelPair) -> None:
        super().__init__(method_config, config, pair)
        size, images = self.config.features, len(pair.train_labels)
        self.student = EmbeddingMemory(pair.student_shapes.pooled, size, images)
        self.teacher = EmbeddingMemory(pair.teacher_shapes.pooled, size, images)
        self.by_class: Tensor
        by_class = pair.train_labels.argsort(stable=True)
        self.register_buffer("by_class", by_class, persistent=False)
        self.class_counts: Tensor
        self.register_buffer("class_counts", _class_counts(pair.train_labels), persistent=False)

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of the loss."""
        return {"crd": self.config.weight}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the sum of both models' losses, and write the batch's rows of the memory banks."""
        indices = inputs.sample_indices
        samples = torch.cat([indices[:, None], self._draw_negatives(inputs.labels)], dim=1)
        student, teacher = self.student(inputs.student.pooled), self.teacher(inputs.teacher.pooled)
        loss = self._loss(self.student, student, self.teacher.memory[samples])
        loss = loss + self._loss(self.teacher, teacher, self.student.memory[samples])
        for side, embeddings in ((self.student, student), (self.teacher, teacher)):
            old_rows = side.memory[indices]
            side.memory[indices] = updated_rows(old_rows, embeddings, self.config.momentum)
        return {"crd": loss}

    def _loss(self, side: EmbeddingMemory, anchors: Tensor, rows: Tensor) -> Tensor:
        """Return the contrastive loss; the first batch sets the side's log Z."""
        images, temperature = len(side.memory), self.config.temperature
        first = contrastive_log_z(anchors, rows, images, temperature)
        side.log_z = torch.where(side.log_z.isnan(), first.to(side.log_z.dtype), side.log_z)
        return contrastive_loss(anchors, rows, side.log_z, images, temperature)

    def _draw_negatives(self, labels: Tensor) -> Tensor:
        """Return sample indices (B, negatives) of images of other classes.

        ``by_class`` lists the images class by class. A position is drawn among all images but those
        of the own class, and positions behind that class are shifted past it.
        """
        same_class = self.class_counts[labels][:, None]
        before = (self.class_counts.cumsum(0) - self.class_counts)[labels][:, None]
        shape = (len(labels), self.config.negatives)
        others = len(self.by_class) - same_class
        drawn = (torch.rand(shape, device=labels.device) * others).long().minimum(others - 1)
        return self.by_class[torch.where(drawn < before, drawn, drawn + same_class)]


def _class_counts(labels: Tensor) -> Tensor:
    """Return the number of images of each class, (C,); on the meta device only a placeholder."""
    if labels.is_meta or not len(labels):
        return labels
    return labels.bincount()
