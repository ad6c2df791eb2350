"""One step of all arms of a stream: the teacher sees the batch, every arm steps, all is recorded.

What the device does is apart from what only Python does, so that a CUDA graph can repeat it.
"""

from collections.abc import Hashable, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from rkkd_cli.data.stream import Batch
from rkkd_cli.train.arm import record, record_gradients
from rkkd_cli.train.cuda_graph import CudaGraphStep, GraphRecorder
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.metrics.gradients import EVERY
from rkkd_cli.train.profile import STREAM, Spans, untimed
from rkkd_cli.train.recipe import allow_capture
from rkkd_cli.train.stacked.stack import ArmGroup, Stack
from rkkd_cli.train.taught_batch import (
    StepOutput,
    TaughtBatch,
    TeacherOutputs,
    feature_needs,
    run_teacher,
)


class Progress(NamedTuple):
    """A batch of a training, number ``batch`` (from 0) of ``batches`` in an epoch (from 1)."""

    epoch: int
    epochs: int
    batch: int
    batches: int

    @property
    def epochs_done(self) -> float:
        """The epochs done, with fractions."""
        return self.epoch - 1 + self.batch / self.batches


class Step:
    """What all arms do with a batch. With a ``graph_recorder`` it is recorded and replayed.

    ``size`` is the number of images of most batches.
    """

    def __init__(
        self,
        groups: Sequence[ArmGroup],
        size: int,
        process_group: ProcessGroup = SINGLE_PROCESS,
        spans: Spans = untimed,
        graph_recorder: GraphRecorder | None = None,
    ) -> None:
        self.groups, self.process_group, self.spans = groups, process_group, spans
        self.arms = [arm for one in groups for arm in one.members]
        self.needs = feature_needs(arm.objective for arm in self.arms)
        self.graph_step: CudaGraphStep[tuple[TaughtBatch, list[StepOutput]]] | None = None
        if graph_recorder is not None:
            for arm in self.arms:
                allow_capture(arm.trained.optimizer)
            self.graph_step = CudaGraphStep(graph_recorder, size, self._changed, self._why_not)

    @property
    def problem(self) -> str:
        """Why steps are not replayed although they should be, if so."""
        return self.graph_step.problem if self.graph_step else ""

    def take(self, teacher_outputs: TeacherOutputs, batch: Batch, progress: Progress) -> None:
        """Let every arm step on the batch, and record all of them."""
        for one in self.groups:
            one.set_rates(progress.epochs_done)
        work = partial(self._work, teacher_outputs, progress)
        if self.graph_step is None:
            taught, outputs = work(batch)
        else:
            taught, outputs = self.graph_step(work, batch, self._signature(progress.epoch))
        for arm in self.arms:
            arm.meters.images += batch.total
        if progress.batch % EVERY == 0:
            with self.spans(STREAM, "records"):
                record_gradients(self.arms, outputs, taught, self.process_group)

    def _work(
        self, teacher_outputs: TeacherOutputs, progress: Progress, batch: Batch
    ) -> tuple[TaughtBatch, list[StepOutput]]:
        """Do all that the device does, and nothing that it does not."""
        with self.spans(STREAM, "teacher"):
            taught = run_teacher(
                teacher_outputs, batch, self.needs, progress.epoch, progress.epochs
            )
        outputs = []
        for group in self.groups:
            outputs.append(group.step(taught, self.spans))
        with self.spans(STREAM, "records"):
            record(self.arms, outputs, taught, self.process_group)
        return taught, outputs

    def _changed(self) -> list[Tensor]:
        """Return all tensors that a step changes."""
        tensors: list[Tensor] = []
        for arm in self.arms:
            model, optimizer = arm.trained.model, arm.trained.optimizer
            held = [*model.parameters(), *model.buffers()]
            held += [one for state in optimizer.state.values() for one in state.values()]
            tensors += [one.detach() for one in held if isinstance(one, Tensor)]
            tensors += arm.meters.tensors
        return tensors

    def _signature(self, epoch: int) -> Hashable:
        """Return what of a step changes with the epoch: weights, and what methods make of it."""
        objectives = [arm.objective for arm in self.arms]
        weights = tuple(tuple(one.loss_weights(epoch).items()) for one in objectives)
        return weights, epoch if any(one.method.reads_epoch for one in objectives) else None

    def _why_not(self) -> str:
        """Return why steps like those so far cannot be repeated by a graph, if so."""
        drawing = [arm.name for arm in self.arms if arm.trained.randomness.drew]
        if drawing:
            return f"arm {drawing[0]} draws random numbers in each step"
        if any(isinstance(one, Stack) and not one.optimizer.capturable for one in self.groups):
            return "stacked AdamW counts its steps on the CPU (--no-stack helps)"
        return ""
