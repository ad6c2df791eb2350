"""One training step of a stream: the teacher sees the batch, then every arm steps on it.

What runs on the device is separate from what only Python does, so that a CUDA graph can replay it.
"""

from collections.abc import Hashable, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from rkkd_cli.data.on_device import AnyBatch
from rkkd_cli.data.stream import Batch
from rkkd_cli.train.cuda_graph import CudaGraphStep, GraphRecorder
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.metrics.gradients import GRADIENT_LOG_INTERVAL
from rkkd_cli.train.profile import stage
from rkkd_cli.train.recipe import allow_capture
from rkkd_cli.train.record_step import record_gradients, record_metrics
from rkkd_cli.train.regions import AnyTaught
from rkkd_cli.train.stacked.stack import ArmGroup
from rkkd_cli.train.taught_batch import (
    StepOutput,
    TeacherOutputs,
    feature_needs,
)
from rkkd_cli.train.teacher.model import teach


class Progress(NamedTuple):
    """Where a training is: epoch (from 1) of ``epochs``, batch (from 0) of ``batches``."""

    epoch: int
    epochs: int
    batch: int
    batches: int

    @property
    def epochs_done(self) -> float:
        """The epochs done, with fractions."""
        return self.epoch - 1 + self.batch / self.batches


class Step:
    """The training step of all arms. With a ``graph_recorder`` it is recorded and replayed.

    ``batch_size`` is the size of all batches but perhaps the last one of an epoch.
    """

    def __init__(
        self,
        groups: Sequence[ArmGroup],
        batch_size: int,
        process_group: ProcessGroup = SINGLE_PROCESS,
        graph_recorder: GraphRecorder | None = None,
    ) -> None:
        self.groups, self.process_group = groups, process_group
        self.arms = [arm for group in groups for arm in group.members]
        self.needs = feature_needs(arm.objective for arm in self.arms)
        self.graph_step: CudaGraphStep[tuple[AnyTaught, list[StepOutput]]] | None = None
        if graph_recorder is not None:
            for arm in self.arms:
                allow_capture(arm.trained.optimizer)
            self.graph_step = CudaGraphStep(
                graph_recorder, batch_size, self._changed_tensors, self._why_no_graph
            )

    @property
    def problem(self) -> str:
        """Why steps are not replayed although that was requested; empty if they are."""
        return self.graph_step.problem if self.graph_step else ""

    def take(self, teacher_outputs: TeacherOutputs, batch: AnyBatch, progress: Progress) -> None:
        """Let every arm step on the batch, and record its metrics."""
        for group in self.groups:
            group.set_rates(progress.epochs_done)
        run = partial(self._run_on_device, teacher_outputs, progress)
        if self.graph_step is None or not isinstance(batch, Batch):
            taught, outputs = run(batch)
        else:
            taught, outputs = self.graph_step(run, batch, self._signature(progress.epoch))
        for arm in self.arms:
            arm.meters.images += batch.total
        if progress.batch % GRADIENT_LOG_INTERVAL == 0:
            with stage("records"):
                record_gradients(self.arms, outputs, taught, self.process_group)

    def _run_on_device(
        self, teacher_outputs: TeacherOutputs, progress: Progress, batch: AnyBatch
    ) -> tuple[AnyTaught, list[StepOutput]]:
        """Do everything that runs on the device, and nothing else."""
        with stage("teacher"):
            taught = teach(
                teacher_outputs,
                batch,
                self.needs,
                progress.epoch,
                progress.epochs,
                self.process_group,
            )
        outputs = [group.step(taught) for group in self.groups]
        with stage("records"):
            record_metrics(self.arms, outputs, taught, self.process_group)
        return taught, outputs

    def _changed_tensors(self) -> list[Tensor]:
        """Return all tensors that a step changes."""
        tensors: list[Tensor] = []
        for arm in self.arms:
            tensors += arm.trained.tensors + arm.meters.tensors
        return tensors

    def _signature(self, epoch: int) -> Hashable:
        """Return what of a step depends on the epoch: loss weights, and for some methods itself."""
        objectives = [arm.objective for arm in self.arms]
        weights = tuple(tuple(objective.loss_weights(epoch).items()) for objective in objectives)
        reads_epoch = any(objective.method.reads_epoch for objective in objectives)
        return weights, epoch if reads_epoch else None

    def _why_no_graph(self) -> str:
        """Return why a graph cannot replay steps like those so far; empty if it can."""
        drawing = [arm.name for arm in self.arms if arm.trained.rng.has_drawn]
        if drawing:
            return f"arm {drawing[0]} draws random numbers in each step"
        return ""
