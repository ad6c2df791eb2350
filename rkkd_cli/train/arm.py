"""One arm on one stream: its student, optimiser, generators and the sums of its epoch.

The weights of its best epoch become a safetensors file that says what it is.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rkkd_cli.config.arms import Arm
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.methods import Objective, Pair, Seen, View, build_objective
from rkkd_cli.methods.seen import of_logits
from rkkd_cli.models import Classifier, Features, build_model
from rkkd_cli.train.device import autocast
from rkkd_cli.train.distributed.ranks import ALONE, Ranks
from rkkd_cli.train.distributed.sync_batchnorm import synchronise
from rkkd_cli.train.early_stopping import Selection
from rkkd_cli.train.events import BestSoFar
from rkkd_cli.train.metrics.batch import HITS, MEANS, measure
from rkkd_cli.train.metrics.gradients import SUMS, diagnose
from rkkd_cli.train.metrics.totals import Totals
from rkkd_cli.train.profile import Spans, untimed
from rkkd_cli.train.rng import Randomness
from rkkd_cli.train.taught_batch import Lesson, Stepped
from rkkd_cli.train.teacher.model import Teacher
from rkkd_cli.train.teacher.safetensors_files import teacher_bytes
from rkkd_cli.train.trained_model import Trainee

STEP_HITS = HITS[:2]  # an epoch of training has no column of top5


class ArmOnStream:
    """Everything that an arm changes while it trains. Arms share nothing that they change.

    The student's first weights, those of its method's trainable parts and the arm's generators
    depend on the seed alone, so all arms of a seed start from the same weights and draw the same
    noise. ``labels`` (N,) are those of the stream's training images.
    """

    def __init__(
        self, arm: Arm, seed: int, teacher: Teacher, labels: Tensor, ranks: Ranks = ALONE
    ) -> None:
        self.name, self.precision = arm.name, arm.experiment.precision
        self.kind = arm.experiment.student.model, repr(arm.experiment.method)
        student = new_student(arm, seed, teacher)
        self.objective = _objective(arm, seed, teacher, student, labels)
        self.student = self.objective.method.wrap(student).to(teacher.device).train()
        self.facts = _facts(arm, teacher) if self.student is student else {}  # else it is no model
        totals = Totals((*MEANS, *self.objective.own_terms), STEP_HITS, teacher.device)
        recipe = arm.experiment.training
        trained = _trained(self.student, self.objective)
        if arm.experiment.sync_batchnorm and ranks.count > 1:
            synchronise(trained, ranks)
        self.trainee = Trainee(trained, recipe, derive_seed(seed, "arm"), totals, ranks)
        self.diagnostics = Totals(SUMS, (), teacher.device)
        self.selection = Selection(recipe)

    @property
    def totals(self) -> Totals:
        """The sums of the running epoch."""
        return self.trainee.totals

    def begin_epoch(self) -> None:
        """Let all sums begin again."""
        self.totals.reset()
        self.diagnostics.reset()

    def state(self) -> dict[str, Any]:
        """Return all that :meth:`load` needs to go on as if nothing had happened."""
        state = self.trainee.state() | {"diagnostics": self.diagnostics.state()}
        return state | {"selection": self.selection.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Go back to a state. Raises ValueError, or what torch raises, where it does not fit."""
        self.trainee.load(state)
        self.diagnostics.load(state["diagnostics"])
        self.selection.load(state.get("selection", {}))

    @property
    def members(self) -> "list[ArmOnStream]":
        """The arm alone: see Stepping."""
        return [self]

    def set_rates(self, epochs_done: float) -> None:
        """Take the learning rate that the recipe has after ``epochs_done`` epochs."""
        self.trainee.set_rate(epochs_done)

    def step(self, lesson: Lesson, spans: Spans = untimed) -> Stepped:
        """Take one optimisation step; return the logits (1, B, C) before it, and own terms."""
        with self.trainee.randomness.active():
            with spans(self.name, "forward"):
                seen = self._see(lesson)
                losses = self.objective.loss(seen)
            loss = self.trainee.ranks.weighted(losses.total, lesson.batch)
            self.trainee.descend(loss, spans, self.name)
        return Stepped(seen.student.logits.detach()[None], [losses.own])

    def _see(self, lesson: Lesson) -> Seen:
        """Let the student see the batch, and the strong view if its method asks for it."""
        method, batch, strong = self.objective.method, lesson.batch, None
        with autocast(self.totals.device, self.precision):
            student = self._outputs(batch.images)
            if method.needs_strong_view:
                assert batch.strong is not None
                assert lesson.strong is not None
                strong = View(self._outputs(batch.strong), lesson.strong)
        return Seen(
            student, lesson.teacher, batch.labels, batch.places, lesson.epoch, lesson.epochs, strong
        )

    def _outputs(self, images: Tensor) -> Features:
        if self.objective.method.needs_features:
            return self.student.forward_features(images)
        return of_logits(self.student(images))


def _objective(
    arm: Arm, seed: int, teacher: Teacher, student: Classifier, labels: Tensor
) -> Objective:
    """Return the arm's objective, the trainable parts with the first weights of ``seed``."""
    pair = Pair(student, teacher.model, teacher.in_channels, teacher.image_size, labels)
    with Randomness(derive_seed(seed, "method"), teacher.device).active():
        objective = build_objective(arm.experiment.method, arm.experiment.rank, pair)
    objective.method.to(teacher.device).train()
    return objective


def _facts(arm: Arm, teacher: Teacher) -> dict[str, Any]:
    """Return what the student's weights are."""
    height, width = teacher.image_size
    return {
        "model": arm.experiment.student.model,
        "classes": teacher.num_classes,
        "channels": teacher.in_channels,
        "image_size": f"{height}x{width}",
        "dataset": arm.experiment.dataset.name,
    }


def _trained(student: Classifier, objective: Objective) -> nn.Module:
    """Return all that is trained and kept: the student, and what its method adds."""
    if not objective.method.state_dict():
        return student
    return nn.ModuleDict({"student": student, "method": objective.method})


def record(
    arms: Sequence[ArmOnStream], stepped: Sequence[Stepped], lesson: Lesson, ranks: Ranks = ALONE
) -> None:
    """Add the terms and metrics of a step, those of all ranks, to the totals of its arms.

    How many images they are of is left to be counted: that is nothing that the device does.
    """
    logits = torch.cat([one.logits for one in stepped])
    own = [terms for one in stepped for terms in one.own]
    objectives, batch = [arm.objective for arm in arms], lesson.batch
    measured = measure(objectives, logits, lesson.teacher.logits, batch.labels)
    means = [
        torch.cat([row, *(one.to(row.dtype)[None] for one in terms.values())])
        for row, terms in zip(measured.means, own, strict=True)
    ]
    hits = [row[: len(STEP_HITS)] for row in measured.hits]
    for arm, row, counts in zip(arms, *ranks.pooled(means, hits, batch), strict=True):
        arm.totals.accumulate(row, counts, batch.total)


def record_gradients(
    arms: Sequence[ArmOnStream], stepped: Sequence[Stepped], lesson: Lesson, ranks: Ranks = ALONE
) -> None:
    """Add what the gradients by the logits of a step are, over all ranks."""
    logits = torch.cat([one.logits for one in stepped])
    sums = list(diagnose([arm.objective for arm in arms], logits, lesson.teacher.logits))
    none = [logits.new_empty(0, dtype=torch.int64)] * len(arms)
    for arm, row, counts in zip(arms, *ranks.pooled(sums, none, lesson.batch), strict=True):
        arm.diagnostics.add_row(row, counts, lesson.batch.total)


def new_student(arm: Arm, seed: int, teacher: Teacher) -> Classifier:
    """Return the arm's student with the first weights of ``seed``, on the teacher's device."""
    name = arm.experiment.student.model
    with Randomness(derive_seed(seed, "student"), teacher.device).active():
        student = build_model(name, teacher.num_classes, teacher.in_channels, teacher.image_size)
    return student.to(teacher.device).to(memory_format=torch.channels_last).train()


def best_so_far(stream: str, seed: int, arm: ArmOnStream) -> BestSoFar:
    """Return the student's weights as they are now, which are those of its best epoch."""
    assert arm.selection.best is not None
    value, epoch = arm.selection.best
    chosen = {"epoch": epoch, "monitor": arm.selection.monitor, "value": value}
    further = {"arm": arm.name, "seed": seed, **chosen}
    content = teacher_bytes(arm.student.state_dict(), arm.facts, further)
    return BestSoFar(stream, arm.name, seed, content)
