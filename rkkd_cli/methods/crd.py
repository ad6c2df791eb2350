"""Contrastive representation distillation (Tian et al., arXiv 1910.10699)."""

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig
from rkkd_cli.losses import contrastive_log_z, contrastive_loss, updated_rows
from rkkd_cli.losses.geometry import unit_vectors
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, Pair


class CRDConfig(FrozenConfig):
    """The weight of the loss, the size of its embedding, and the negatives of each image."""

    weight: float = Field(default=0.8, ge=0)
    features: int = Field(default=128, ge=1)
    negatives: int = Field(default=16384, ge=1)
    temperature: float = Field(default=0.07, gt=0)
    momentum: float = Field(default=0.5, ge=0, le=1)


class Side(nn.Module):
    """One side's embedding of pooled features, its memory of all images, and its log Z."""

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
        """Return embeddings of length 1, (B, features)."""
        embedded: Tensor = self.embed(pooled)
        return unit_vectors(embedded)


class CRD(Method):
    """CE + weight·(student against the teacher's memory + teacher against the student's).

    The positive of an image is the image itself (mode "exact"); its negatives are drawn from the
    images of other classes, with replacement (RepDistiller draws without where there are enough).
    The memories are buffers: a checkpoint keeps them.
    """

    Config = CRDConfig
    terms = ("crd",)
    reads_epoch = False
    needs_features = True
    keeps_memory = True
    config: CRDConfig

    def __init__(self, method_config: MethodConfig, config: FrozenConfig, pair: Pair) -> None:
        super().__init__(method_config, config, pair)
        size, images = self.config.features, len(pair.labels)
        self.student = Side(pair.student_shapes.pooled, size, images)
        self.teacher = Side(pair.teacher_shapes.pooled, size, images)
        self.by_class: Tensor
        self.register_buffer("by_class", pair.labels.argsort(stable=True), persistent=False)
        self.counts: Tensor
        self.register_buffer("counts", _class_counts(pair.labels), persistent=False)

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight."""
        return {"crd": self.config.weight}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the sum of both sides' losses; afterwards the memories have the batch's rows."""
        rows = torch.cat([inputs.indices[:, None], self._negatives(inputs.labels)], dim=1)
        student, teacher = self.student(inputs.student.pooled), self.teacher(inputs.teacher.pooled)
        loss = self._loss(self.student, student, self.teacher.memory[rows])
        loss = loss + self._loss(self.teacher, teacher, self.student.memory[rows])
        for side, embedded in ((self.student, student), (self.teacher, teacher)):
            kept = side.memory[inputs.indices]
            side.memory[inputs.indices] = updated_rows(kept, embedded, self.config.momentum)
        return {"crd": loss}

    def _loss(self, side: Side, anchors: Tensor, rows: Tensor) -> Tensor:
        images, temperature = len(side.memory), self.config.temperature
        first = contrastive_log_z(anchors, rows, images, temperature)
        side.log_z = torch.where(side.log_z.isnan(), first.to(side.log_z.dtype), side.log_z)
        return contrastive_loss(anchors, rows, side.log_z, images, temperature)

    def _negatives(self, labels: Tensor) -> Tensor:
        """Return the places (B, negatives) of images of other classes.

        Images ordered by class: what is drawn leaves out the block of the image's own class.
        """
        own = self.counts[labels][:, None]
        before = (self.counts.cumsum(0) - self.counts)[labels][:, None]
        shape = (len(labels), self.config.negatives)
        others = len(self.by_class) - own
        drawn = (torch.rand(shape, device=labels.device) * others).long().minimum(others - 1)
        return self.by_class[torch.where(drawn < before, drawn, drawn + own)]


def _class_counts(labels: Tensor) -> Tensor:
    if labels.is_meta or not len(labels):
        return labels
    return labels.bincount()
