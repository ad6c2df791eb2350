"""One arm on one stream: its student, optimiser, generators and the sums of its epoch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rkkd_cli.config.arms import Arm
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.data.stream import Batch
from rkkd_cli.methods import build_objective
from rkkd_cli.models import Classifier, build_model
from rkkd_cli.train.device import autocast
from rkkd_cli.train.metrics import HITS, MEANS, measure
from rkkd_cli.train.randomness import Randomness
from rkkd_cli.train.teacher import Teacher
from rkkd_cli.train.totals import Totals
from rkkd_cli.train.trainee import Trainee

STEP_HITS = HITS[:2]  # an epoch of training has no column of top5


class ArmOnStream:
    """Everything that an arm changes while it trains. Arms share nothing that they change.

    The student's first weights and the arm's generators depend on the seed alone, so all arms
    of a seed start from the same weights and draw the same noise.
    """

    def __init__(self, arm: Arm, seed: int, teacher: Teacher) -> None:
        self.name, self.precision = arm.name, arm.experiment.precision
        self.objective = build_objective(arm.experiment.method, arm.experiment.rank)
        self.student = new_student(arm, seed, teacher)
        totals = Totals(MEANS, STEP_HITS, teacher.device)
        recipe = arm.experiment.training
        self.trainee = Trainee(self.student, recipe, derive_seed(seed, "arm"), totals)

    @property
    def totals(self) -> Totals:
        """The sums of the running epoch."""
        return self.trainee.totals

    @property
    def members(self) -> "list[ArmOnStream]":
        """The arm alone: see Stepping."""
        return [self]

    def step(self, batch: Batch, teacher_logits: Tensor, epochs_done: float) -> Tensor:
        """Take one optimisation step; return the logits (1, B, C) before it."""
        self.trainee.set_rate(epochs_done)
        with self.trainee.randomness.active():
            with autocast(self.totals.device, self.precision):
                logits: Tensor = self.student(batch.images)
            self.trainee.descend(self.objective.loss(logits, teacher_logits, batch.labels))
        return logits.detach()[None]


def record(
    arms: Sequence[ArmOnStream], logits: Tensor, teacher_logits: Tensor, labels: Tensor
) -> None:
    """Add the terms and metrics of the arms' logits (A, B, C) to their totals."""
    objectives = [arm.objective for arm in arms]
    measured = measure(objectives, logits, teacher_logits, labels)
    for arm, means, hits in zip(arms, *measured, strict=True):
        arm.totals.add_row(means, hits[: len(STEP_HITS)], len(labels))


def new_student(arm: Arm, seed: int, teacher: Teacher) -> Classifier:
    """Return the arm's student with the first weights of ``seed``, on the teacher's device."""
    with Randomness(derive_seed(seed, "student"), teacher.device).active():
        student = build_model(
            arm.experiment.student.model, teacher.num_classes, teacher.in_channels
        )
    return student.to(teacher.device).to(memory_format=torch.channels_last).train()
