"""Accuracy and terms on a whole split, in eval mode and without augmentation."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rkkd_cli.config.teachers import target_columns
from rkkd_cli.data.model_input import ModelInput
from rkkd_cli.data.stream import DeviceImages
from rkkd_cli.methods.objective import Objective
from rkkd_cli.methods.teacher_outputs import Logits
from rkkd_cli.models.shapes import in_eval_mode
from rkkd_cli.train.device import autocast
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.events import Tick, Warned
from rkkd_cli.train.metrics.batch import CORRECT, MEANS, measure
from rkkd_cli.train.metrics.meters import EpochMeters, NonFinite, SplitMeters
from rkkd_cli.train.profile import EVALUATION, stage

EVALUATION_BATCH = 500
EMA = "_ema"  # the end of what is about the moving averages of weights
SPLIT_CORRECT = CORRECT[1:]  # metrics.csv has no agreement on a held-out split


class TaughtSplit(NamedTuple):
    """A held-out split, or a rank's shard of it, and the teacher's logits (N, C) on it.

    Of several teachers they are those of each by name.

    The logits stay on the device in float32, even if the images are streamed: 200 MB for
    ImageNet's 50,000 images. ``batches`` counts the batches of the largest rank's shard.
    """

    images: DeviceImages
    teacher_logits: Logits
    batches: int = 0

    @property
    def classes(self) -> int:
        """The number of classes."""
        logits = self.teacher_logits
        one = next(iter(logits.values())) if isinstance(logits, Mapping) else logits
        return one.shape[1]

    @property
    def target_columns(self) -> tuple[str, ...]:
        """The terms that only several teachers have."""
        logits = self.teacher_logits
        return target_columns(logits) if isinstance(logits, Mapping) else ()

    def logits_at(self, indices: Tensor) -> Logits:
        """Return the teachers' logits on some of the images."""
        if isinstance(self.teacher_logits, Mapping):
            return {name: logits[indices] for name, logits in self.teacher_logits.items()}
        return self.teacher_logits[indices]


class EvaluatedStudent(NamedTuple):
    """A student, its objective, and how it takes the images."""

    model: nn.Module
    objective: Objective
    input: ModelInput


@torch.no_grad()
def all_logits(
    model: nn.Module, split: DeviceImages, precision: str, model_input: ModelInput
) -> Tensor:
    """Return the logits (N, C) of every image of the split."""
    with in_eval_mode(model), autocast(split.device, precision):
        batches = split.in_order(EVALUATION_BATCH)
        return torch.cat([model(model_input(batch.images)).float() for batch in batches])


def accuracy(
    model: nn.Module, split: DeviceImages, precision: str, model_input: ModelInput
) -> float:
    """Return the model's top-1 accuracy on the split, in percent."""
    correct = all_logits(model, split, precision, model_input).argmax(dim=1) == split.labels
    return 100 * int(correct.sum()) / len(correct)


def evaluate(
    students: Sequence[EvaluatedStudent],
    split: TaughtSplit,
    precision: str,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> Generator[Tick, None, list[SplitMeters]]:
    """Return the meters of each student with its objective, over all ranks.

    Every batch is read once for all students, and resampled once for each size that they take.
    Yields a Tick for each student and batch, so that the training can stop; every rank yields
    equally many.
    """
    device = split.images.device
    meters = [
        SplitMeters((*MEANS, *split.target_columns), SPLIT_CORRECT, split.classes, device)
        for _ in students
    ]
    batches = 0
    for batch in split.images.in_order(EVALUATION_BATCH):
        teacher, batches = split.logits_at(batch.indices), batches + 1
        images = {one: one(batch.images) for one in {student.input for student in students}}
        for student, student_meters in zip(students, meters, strict=True):
            model = student.model
            with stage(EVALUATION):
                with in_eval_mode(model), torch.no_grad(), autocast(device, precision):
                    logits = model(images[student.input])
                metrics = measure([student.objective], logits[None], teacher, batch.targets)
                student_meters.add(metrics.means[0], metrics.correct[0, 1:], len(batch.labels))
                student_meters.count_predictions(logits)
            yield Tick()
    for _ in range(len(students) * (split.batches - batches)):
        yield Tick()
    for student_meters in meters:
        student_meters.reduce(process_group)
    return meters


def held_out_columns(split_name: str, meters: SplitMeters) -> dict[str, float]:
    """Return the columns of metrics.csv of a held-out split; of moving averages the accuracy."""
    averages = meters.averages()
    if split_name.endswith(EMA):
        return {f"{split_name.removesuffix(EMA)}_acc{EMA}": averages["acc"]}
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


def one_class_warnings(
    seed: int, epoch: int, meters_of: Mapping[str, SplitMeters]
) -> Iterator[Warned]:
    """Yield a sentence about the arms, by name, that give all test images the same class.

    It is none where all images have that class. Waits for the device.
    """
    arms = [
        arm
        for arm, meters in meters_of.items()
        if meters.predicts_one_class() and meters.averages()["acc"] < 100
    ]
    if arms:
        images = meters_of[arms[0]].images
        predict = "predicts" if len(arms) == 1 else "predict"
        yield Warned(
            f"seed {seed}: after epoch {epoch}, {', '.join(arms)} {predict} one class for all "
            f"{images:,} test images, as a student that has learnt nothing; a lower learning rate "
            "or more epochs may help"
        )
