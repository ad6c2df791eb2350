"""Accuracy and terms on a whole split, in eval mode and without augmentation."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from rkkd_cli.config.teachers import target_columns
from rkkd_cli.data.model_input import ModelInput
from rkkd_cli.data.on_device import AnyImages
from rkkd_cli.data.stream import Batch, DeviceImages
from rkkd_cli.methods.objective import Objective
from rkkd_cli.methods.teacher_outputs import Logits
from rkkd_cli.models.shapes import in_eval_mode
from rkkd_cli.tasks.task import HeldOutRows, Task
from rkkd_cli.train.device import autocast
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.events import Tick, Warned
from rkkd_cli.train.metrics.batch import mean_names, measure
from rkkd_cli.train.metrics.meters import EpochMeters, NonFinite, SplitMeters
from rkkd_cli.train.profile import EVALUATION, stage

OUTPUT_BATCH = 500
EMA = "_ema"  # the end of what is about the moving averages of weights


class TaughtSplit(NamedTuple):
    """A held-out split, or a rank's shard of it, and the teacher's outputs (N, D) on it.

    Of several teachers they are those of each by name.

    The outputs stay on the device in float32, even if the images are streamed: 200 MB for
    ImageNet's 50,000 images. ``process_group`` has the ranks that share the split, and ``batches``
    counts the batches of the largest shard.
    """

    task: Task
    images: DeviceImages
    teacher_outputs: Logits
    batches: int = 0
    process_group: ProcessGroup = SINGLE_PROCESS

    @property
    def outputs(self) -> int:
        """The number of a teacher's outputs."""
        one = self.teacher_outputs
        return (next(iter(one.values())) if isinstance(one, Mapping) else one).shape[1]

    @property
    def target_columns(self) -> tuple[str, ...]:
        """The terms that only several teachers have."""
        outputs = self.teacher_outputs
        return target_columns(outputs) if isinstance(outputs, Mapping) else ()

    def in_order(self) -> Iterator[Batch]:
        """Yield the images in the batches in which they are evaluated."""
        return self.images.in_order(self.task.evaluation_batch, self.task.evaluation_rest)

    def teacher_rows(self, batch: Batch) -> Logits:
        """Return the teachers' rows of logits (B, C) on a batch."""
        outputs, indices = self.teacher_outputs, batch.indices
        if isinstance(outputs, Mapping):
            return {name: self.task.rows(one[indices]) for name, one in outputs.items()}
        return self.task.rows(outputs[indices])

    def held_out_rows(self, model: nn.Module, images: Tensor, batch: Batch) -> HeldOutRows:
        """Return what a student's outputs on a batch are measured by."""
        return HeldOutRows(model(images), batch.targets)


class HeldOutSplit(Protocol):
    """A held-out split with what a teacher says of it: a TaughtSplit, or one of a detector."""

    @property
    def task(self) -> Task:
        """The task."""

    @property
    def images(self) -> AnyImages:
        """The images on the device."""

    @property
    def outputs(self) -> int:
        """The number of a teacher's outputs."""

    @property
    def batches(self) -> int:
        """The batches of the largest rank's shard."""

    @property
    def process_group(self) -> ProcessGroup:
        """The ranks that share the split."""

    @property
    def target_columns(self) -> tuple[str, ...]:
        """The terms that only several teachers have."""

    def in_order(self) -> Iterator[Any]:
        """Yield the batches in which the images are evaluated."""

    def teacher_rows(self, batch: Any) -> Logits:
        """Return the teachers' rows of logits on a batch."""

    def held_out_rows(self, model: nn.Module, images: Tensor, batch: Any) -> HeldOutRows:
        """Return what a student's outputs on a batch are measured by."""


class EvaluatedStudent(NamedTuple):
    """A student, its objective, and how it takes the images."""

    model: nn.Module
    objective: Objective
    input: ModelInput


@torch.no_grad()
def all_outputs(
    model: nn.Module, split: DeviceImages, precision: str, model_input: ModelInput
) -> Tensor:
    """Return the outputs (N, D) for every image of the split."""
    with in_eval_mode(model), autocast(split.device, precision):
        batches = split.in_order(OUTPUT_BATCH)
        return torch.cat([model(model_input(batch.images)).float() for batch in batches])


def evaluate(
    students: Sequence[EvaluatedStudent],
    split: HeldOutSplit,
    precision: str,
) -> Generator[Tick, None, list[SplitMeters]]:
    """Return the meters of each student with its objective, over all ranks.

    Every batch is read once for all students, and resampled once for each size that they take.
    Yields a Tick for each student and batch, so that the training can stop; every rank yields
    equally many.
    """
    task, device = split.task, split.images.device
    names = (*mean_names(task), *split.target_columns)
    wholes = [task.held_out_metrics(split.outputs, device) for _ in students]
    meters = [SplitMeters(names, task.counts_held_out, device, whole) for whole in wholes]
    batches = 0
    for batch in split.in_order():
        teacher, batches = split.teacher_rows(batch), batches + 1
        images = {one: one(batch.images) for one in {student.input for student in students}}
        for student, student_meters in zip(students, meters, strict=True):
            model = student.model
            with stage(EVALUATION):
                with in_eval_mode(model), torch.no_grad(), autocast(device, precision):
                    rows = split.held_out_rows(model, images[student.input], batch)
                student_meters.whole.add(rows)
                if len(rows.outputs):  # a batch may have no object to compare
                    measured = _measured(task, student.objective, rows, teacher)
                    student_meters.add(*measured, len(batch.indices))
            yield Tick()
    for _ in range(len(students) * (split.batches - batches)):
        yield Tick()
    for student_meters in meters:
        student_meters.reduce(split.process_group)
    return meters


def _measured(
    task: Task, objective: Objective, rows: HeldOutRows, teacher: Logits
) -> tuple[Tensor, Tensor]:
    """Return the means and counts of a student's rows on a held-out batch."""
    outputs, hard_terms = [rows.outputs[None]], [objective.hard.held_out]
    metrics = measure(task, [objective], hard_terms, outputs, teacher, rows.targets)
    return metrics.of_arm(0, task.counts_held_out)


def held_out_columns(task: Task, split_name: str, meters: SplitMeters) -> dict[str, float]:
    """Return the columns of metrics.csv of a held-out split; of moving averages the main one."""
    averages = meters.averages()
    if split_name.endswith(EMA):
        column = task.records.ema_column(split_name.removesuffix(EMA))
        return {column: averages[task.records.main]}
    return {f"{split_name}_{name}": value for name, value in averages.items()}


def first_non_finite(
    training: EpochMeters, held_out: Mapping[str, SplitMeters]
) -> NonFinite | None:
    """Return the first term of an arm that is not finite, in training or on a held-out split."""
    non_finite = training.first_non_finite()
    for split_name, meters in held_out.items():
        on_split = meters.first_non_finite()
        if non_finite is None and on_split is not None:
            non_finite = NonFinite(f"{split_name}_{on_split.term}", step=None)
    return non_finite


def collapse_warnings(
    task: Task, seed: int, epoch: int, meters_of: Mapping[str, SplitMeters]
) -> Iterator[Warned]:
    """Yield a sentence about the arms, by name, that give all test images the same output.

    It is none where all images have that class. Waits for the device.
    """
    arms = [
        arm
        for arm, meters in meters_of.items()
        if meters.whole.is_collapsed() and meters.averages()[task.records.main] < 100
    ]
    if arms:
        images = meters_of[arms[0]].images
        predict = f"{'predicts' if len(arms) == 1 else 'predict'} one {task.output_name}"
        yield Warned(
            f"seed {seed}: after epoch {epoch}, {', '.join(arms)} {predict} for all "
            f"{images:,} test images, as a student that has learnt nothing; a lower learning rate "
            "or more epochs may help"
        )
