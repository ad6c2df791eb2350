"""One arm on one stream: its student, optimiser, generators and the sums of its epoch.

The weights of its best epoch become a safetensors file that says what it is.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rkkd_cli.config.arms import Arm
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.methods import DistillInputs, ModelPair, Objective, ViewOutputs, build_objective
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.models import Classifier, Features, build_model
from rkkd_cli.train.device import autocast
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.distributed.sync_batchnorm import synchronise
from rkkd_cli.train.early_stopping import EarlyStopping
from rkkd_cli.train.events import BestSoFar
from rkkd_cli.train.metrics.batch import CORRECT, MEANS, measure
from rkkd_cli.train.metrics.gradients import SUMS, diagnose
from rkkd_cli.train.metrics.meters import EpochMeters
from rkkd_cli.train.profile import Spans, untimed
from rkkd_cli.train.rng import Randomness
from rkkd_cli.train.taught_batch import StepOutput, TaughtBatch
from rkkd_cli.train.teacher.model import Teacher
from rkkd_cli.train.teacher.safetensors_files import teacher_bytes
from rkkd_cli.train.trained_model import TrainedModel

STEP_CORRECT = CORRECT[:2]  # an epoch of training has no column of top5


class ArmOnStream:
    """Everything that an arm changes while it trains. Arms share nothing that they change.

    The student's first weights, those of its method's trainable parts and the arm's generators
    depend on the seed alone, so all arms of a seed start from the same weights and draw the same
    noise. ``labels`` (N,) are those of the stream's training images.
    """

    def __init__(
        self,
        arm: Arm,
        seed: int,
        teacher: Teacher,
        labels: Tensor,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.name, self.experiment, self.precision = (
            arm.name,
            arm.experiment,
            arm.experiment.precision,
        )
        student = new_student(arm, seed, teacher)
        self.objective = _objective(arm, seed, teacher, student, labels)
        self.student = self.objective.method.wrap_student(student).to(teacher.device).train()
        self.facts = _facts(arm, teacher) if self.student is student else {}  # else it is no model
        meters = EpochMeters((*MEANS, *self.objective.method_terms), STEP_CORRECT, teacher.device)
        recipe = arm.experiment.training
        trained = _trained(self.student, self.objective)
        if arm.experiment.sync_batchnorm and process_group.world_size > 1:
            synchronise(trained, process_group)
        self.trained = TrainedModel(
            trained, recipe, derive_seed(seed, "arm"), meters, process_group
        )
        self.diagnostics = EpochMeters(SUMS, (), teacher.device)
        self.early_stopping = EarlyStopping(recipe)

    @property
    def meters(self) -> EpochMeters:
        """The sums of the running epoch."""
        return self.trained.meters

    def begin_epoch(self) -> None:
        """Let all sums begin again."""
        self.meters.reset()
        self.diagnostics.reset()

    def state(self) -> dict[str, Any]:
        """Return all that :meth:`load` needs to go on as if nothing had happened."""
        state = self.trained.state() | {"diagnostics": self.diagnostics.state()}
        return state | {"early_stopping": self.early_stopping.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Go back to a state. Raises ValueError, or what torch raises, where it does not fit."""
        self.trained.load(state)
        self.diagnostics.load(state["diagnostics"])
        self.early_stopping.load(state.get("early_stopping", {}))

    @property
    def members(self) -> "list[ArmOnStream]":
        """The arm alone: see Stepping."""
        return [self]

    def set_rates(self, epochs_done: float) -> None:
        """Take the learning rate that the recipe has after ``epochs_done`` epochs."""
        self.trained.set_rate(epochs_done)

    def step(self, taught: TaughtBatch, spans: Spans = untimed) -> StepOutput:
        """Take one optimisation step; return the logits (1, B, C) before it, and own terms."""
        with self.trained.randomness.active():
            with spans(self.name, "forward"):
                inputs = self._forward(taught)
                losses = self.objective.loss(inputs)
            loss = self.trained.process_group.scale_loss(losses.total, taught.batch)
            self.trained.backward_and_step(loss, spans, self.name)
        return StepOutput(inputs.student.logits.detach()[None], [losses.method_terms])

    def _forward(self, taught: TaughtBatch) -> DistillInputs:
        """Let the student see the batch, and the strong view if its method asks for it."""
        method, batch, strong = self.objective.method, taught.batch, None
        with autocast(self.meters.device, self.precision):
            student = self._outputs(batch.images)
            if method.needs_strong_view:
                assert batch.strong is not None
                assert taught.strong is not None
                strong = ViewOutputs(self._outputs(batch.strong), taught.strong)
        return DistillInputs(
            student,
            taught.teacher,
            batch.labels,
            batch.indices,
            taught.epoch,
            taught.epochs,
            strong,
        )

    def _outputs(self, images: Tensor) -> Features:
        if self.objective.method.needs_features:
            return self.student.forward_features(images)
        return logits_only(self.student(images))


def _objective(
    arm: Arm, seed: int, teacher: Teacher, student: Classifier, labels: Tensor
) -> Objective:
    """Return the arm's objective, the trainable parts with the first weights of ``seed``."""
    pair = ModelPair(student, teacher.model, teacher.in_channels, teacher.image_size, labels)
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
    arms: Sequence[ArmOnStream],
    outputs: Sequence[StepOutput],
    taught: TaughtBatch,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> None:
    """Add the terms and metrics of a step, those of all ranks, to the totals of its arms.

    How many images they are of is left to be counted: that is nothing that the device does.
    """
    logits = torch.cat([one.logits for one in outputs])
    own = [terms for one in outputs for terms in one.own]
    objectives, batch = [arm.objective for arm in arms], taught.batch
    measured = measure(objectives, logits, taught.teacher.logits, batch.labels)
    means = [
        torch.cat([row, *(one.to(row.dtype)[None] for one in terms.values())])
        for row, terms in zip(measured.means, own, strict=True)
    ]
    correct = [row[: len(STEP_CORRECT)] for row in measured.correct]
    for arm, row, counts in zip(
        arms, *process_group.reduce_metrics(means, correct, batch), strict=True
    ):
        arm.meters.accumulate(row, counts, batch.total)


def record_gradients(
    arms: Sequence[ArmOnStream],
    outputs: Sequence[StepOutput],
    taught: TaughtBatch,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> None:
    """Add what the gradients by the logits of a step are, over all ranks."""
    logits = torch.cat([one.logits for one in outputs])
    sums = list(diagnose([arm.objective for arm in arms], logits, taught.teacher.logits))
    none = [logits.new_empty(0, dtype=torch.int64)] * len(arms)
    for arm, row, counts in zip(
        arms, *process_group.reduce_metrics(sums, none, taught.batch), strict=True
    ):
        arm.diagnostics.add_row(row, counts, taught.batch.total)


def new_student(arm: Arm, seed: int, teacher: Teacher) -> Classifier:
    """Return the arm's student with the first weights of ``seed``, on the teacher's device."""
    name = arm.experiment.student.model
    with Randomness(derive_seed(seed, "student"), teacher.device).active():
        student = build_model(name, teacher.num_classes, teacher.in_channels, teacher.image_size)
    return student.to(teacher.device).to(memory_format=torch.channels_last).train()


def best_so_far(stream: str, seed: int, arm: ArmOnStream) -> BestSoFar:
    """Return the student's weights as they are now, which are those of its best epoch."""
    assert arm.early_stopping.best is not None
    value, epoch = arm.early_stopping.best
    chosen = {"epoch": epoch, "monitor": arm.early_stopping.monitor, "value": value}
    further = {"arm": arm.name, "seed": seed, **chosen}
    content = teacher_bytes(arm.student.state_dict(), arm.facts, further)
    return BestSoFar(stream, arm.name, seed, content)
