"""A batch with the teacher's outputs on it, for every arm of the stream.

Shapes: A arms, B batch, C classes.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from rkkd_cli.data.model_input import ModelInput
from rkkd_cli.data.stream import Batch
from rkkd_cli.data.targets import Targets
from rkkd_cli.losses import TopLogits
from rkkd_cli.methods import DistillInputs, Objective, ViewOutputs
from rkkd_cli.methods.objective import ObjectiveLoss, weighted_loss
from rkkd_cli.methods.teacher_outputs import AnyLogits, Outputs, logits_of, weighted_targets
from rkkd_cli.models import Features
from rkkd_cli.tasks.task import Task
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup


class TeacherOutputs(Protocol):
    """The teacher, or a cache of its logits; or several."""

    @property
    def task(self) -> Task:
        """What makes rows of the outputs."""

    def outputs(self, images: Tensor, features: bool) -> Outputs:
        """Return the outputs (B, D) on images, and all other features if they are requested."""


class FeatureNeeds(NamedTuple):
    """What the methods of a stream's arms read beside the logits of the weak view."""

    features: bool
    strong_view: bool


class Compared(NamedTuple):
    """What rows of a student are compared with: the teacher's rows (B, C), and their labels.

    Of the teacher it may be what is kept of its rows.

    ``hard``: the value of the hard term, if the student has computed it itself.
    """

    teacher: AnyLogits
    targets: Targets
    hard: Tensor | None = None


class TaughtBatch(NamedTuple):
    """A batch, the teachers' outputs on its weak and its strong view, and the epoch (from 1).

    ``converted`` are the images for students that do not take them as they are: see
    :meth:`images_for`.
    """

    batch: Batch
    teacher: Outputs
    strong: Outputs | None
    epoch: int
    epochs: int
    converted: dict[tuple[ModelInput, bool], Tensor]

    @property
    def compared(self) -> Compared:
        """What the rows of all arms are compared with."""
        return Compared(logits_of(self.teacher), self.batch.targets)

    def images_for(self, model_input: ModelInput, strong: bool = False) -> Tensor:
        """Return the images, or their strong view, as a student takes them.

        They are converted once for all students that take the same.
        """
        images = self.batch.strong if strong else self.batch.images
        assert images is not None
        if model_input.is_same:
            return images
        key = model_input, strong
        if key not in self.converted:
            self.converted[key] = model_input(images)
        return self.converted[key]

    def loss(
        self, objective: Objective, student: Features, strong: Features | None = None
    ) -> ObjectiveLoss:
        """Return the objective's loss, given the student's outputs on both views.

        Of several teachers with a share each it is the weighted sum of the losses.
        """
        targets = weighted_targets(objective, self.teacher)
        views: Sequence[ViewOutputs | None] = [None] * len(targets)
        if strong is not None:
            assert self.strong is not None
            taught = weighted_targets(objective, self.strong)
            views = [ViewOutputs(strong, teacher) for _, teacher in taught]
        losses = [
            objective.loss(self._inputs(student, teacher, view))
            for (_, teacher), view in zip(targets, views, strict=True)
        ]
        return weighted_loss([share for share, _ in targets], losses)

    def _inputs(
        self, student: Features, teacher: Features, strong_view: ViewOutputs | None
    ) -> DistillInputs:
        return DistillInputs(
            student=student,
            teacher=teacher,
            targets=self.batch.targets,
            sample_indices=self.batch.indices,
            epoch=self.epoch,
            epochs=self.epochs,
            strong_view=strong_view,
            kept=self.teacher if isinstance(self.teacher, TopLogits) else None,
        )


class StepOutput(NamedTuple):
    """The outputs (A, B, D) of arms before their step, and the raw terms of their methods.

    ``compared``: what they are compared with, if that is the arm's own.
    """

    outputs: Tensor
    method_terms: list[dict[str, Tensor]]
    compared: Compared | None = None


def feature_needs(objectives: Iterable[Objective]) -> FeatureNeeds:
    """Return the union of what the objectives read."""
    methods = [objective.method for objective in objectives]
    return FeatureNeeds(
        features=any(method.needs_features for method in methods),
        strong_view=any(method.needs_strong_view for method in methods),
    )


def run_teacher(
    teacher: TeacherOutputs,
    batch: Batch,
    needs: FeatureNeeds,
    epoch: int = 1,
    epochs: int = 1,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> TaughtBatch:
    """Run the teacher once on the batch, and once on its strong view if it has one."""

    def rows(images: Tensor) -> Outputs:
        outputs = teacher.outputs(images, needs.features)
        if isinstance(outputs, Features):
            return rows_of_one(outputs)
        if isinstance(outputs, TopLogits):
            return outputs
        return {name: rows_of_one(one) for name, one in outputs.items()}

    def rows_of_one(outputs: Features) -> Features:
        return teacher.task.features(process_group.gather_outputs(outputs, batch))

    strong = None if batch.strong is None else rows(batch.strong)
    weak = rows(batch.images)
    return TaughtBatch(process_group.gather_labels(batch), weak, strong, epoch, epochs, {})
