"""How long a job will take and how much memory it needs, measured on this device."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import psutil
import torch

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import (
    Experiment,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
)
from rkkd_cli.data.catalogue import DatasetInfo
from rkkd_cli.data.model_input import ModelInput, plain_format
from rkkd_cli.data.on_device import AnyBatch, scenes_of
from rkkd_cli.data.stream import Batch
from rkkd_cli.data.streaming.loader import PREFETCH_FACTOR, ImageLoader
from rkkd_cli.models import count_parameters
from rkkd_cli.sweep.batches import images_per_epoch
from rkkd_cli.sweep.check import RESIDENT_COPIES
from rkkd_cli.sweep.datasets import inspect
from rkkd_cli.sweep.decoding_time import decoding_seconds
from rkkd_cli.tasks import task_for
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.configured_model import model_input, new_model, untrained
from rkkd_cli.train.device import use_precision
from rkkd_cli.train.metrics.evaluate import OUTPUT_BATCH
from rkkd_cli.train.taught_batch import feature_needs
from rkkd_cli.train.teacher.model import Teacher, freeze, teach
from rkkd_cli.train.teacher.several import Teachers, teachers_by_name

USABLE_SHARE = 0.8  # of the free memory
BYTES_PER_FLOAT = 4
OPTIMIZER_TENSORS = {"sgd": 1, "adam": 2, "adamw": 2}  # per parameter
TIMED_STEPS = 3
USUAL_PIXELS = 224**2
FEW_IMAGES, MAX_SECONDS = 8, 1.0  # a larger batch is timed in part if it takes longer than that

StudentKind = tuple[StudentConfig, str, str]  # with its method and its optimiser


class JobMemory(NamedTuple):
    """The bytes that a job needs for any number of arms, and those for each arm."""

    shared: int
    per_arm: int

    def max_arms(self, free: int) -> int:
        """Return how many arms fit into so many free bytes, at least one."""
        return max(1, int((USABLE_SHARE * free - self.shared) // self.per_arm))


class EpochTime(NamedTuple):
    """The seconds of an epoch: each teacher, all arms, and the decoding of streamed images."""

    teachers: Mapping[str, float]
    arms: float
    decoding: float = 0.0

    @property
    def teacher(self) -> float:
        """The seconds of all teachers."""
        return sum(self.teachers.values())

    @property
    def epoch(self) -> float:
        """The seconds of the whole epoch with its evaluation. Decoding runs in parallel."""
        return max(self.decoding, self.teacher + self.arms)


class ImageCounts(NamedTuple):
    """The images to train on, those of an epoch's batches, of its evaluation, and of one batch."""

    train: int
    in_epoch: int
    evaluated: int
    batch: int


class StreamEstimate(NamedTuple):
    """What the arms of a stream take on a device.

    ``seconds`` of one seed, ``teacher_share`` of them in the teachers' forward passes;
    ``teacher_seconds`` to train the teachers; ``bytes`` beside PyTorch itself; ``fit``: how many
    arms fit into memory at once.
    """

    arms: int
    seconds: float
    teacher_share: float
    teacher_seconds: float
    bytes: int
    fit: int


def estimate_stream(
    arms: Sequence[Arm], recipes: Mapping[TeacherConfig, TrainingConfig], device: torch.device
) -> StreamEstimate:
    """Return the time and memory of the arms of a stream, measured in a few steps.

    ``recipes`` are those of the teachers that are trained.
    """
    experiment, epoch, memory = arms[0].experiment, epoch_time(arms, device), job_memory(arms)
    training = [
        epoch.teachers[name] * recipes[teacher].epochs
        for name, teacher in experiment.named_teachers.items()
        if teacher in recipes
    ]
    return StreamEstimate(
        arms=len(arms),
        seconds=epoch.epoch * experiment.training.epochs,
        teacher_share=epoch.teacher / epoch.epoch,
        # A forward pass is a third of a step.
        teacher_seconds=3 * sum(training),
        bytes=memory.shared + memory.per_arm * len(arms),
        fit=memory.max_arms(free_memory(device)),
    )


def free_memory(device: torch.device) -> int:
    """Return the free bytes where the arms will be."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def job_memory(arms: Sequence[Arm]) -> JobMemory:
    """Return the memory of a job with these arms.

    An arm needs its weights, their gradients, the optimiser's tensors and any moving averages, and
    twice all but the gradients while a checkpoint is written. Activations are shared, since the
    arms step one after another: those of the largest student count, measured in one forward pass.
    """
    experiment = arms[0].experiment
    dataset = inspect(experiment)
    counts = _image_counts(experiment, dataset)
    stream_images = plain_format(dataset.in_channels, dataset.size)
    activations, per_arm = 0, 0
    for arm in _distinct_arms(arms).values():
        own = model_input(arm.experiment.student, stream_images).own
        model = new_model(arm.experiment.student, dataset.num_classes, own)
        images = torch.zeros(2, own.channels, *own.size)
        weights = BYTES_PER_FLOAT * count_parameters(model)
        recipe = arm.experiment.training
        tensors = 1 + OPTIMIZER_TENSORS[recipe.optimizer] + (recipe.ema_decay is not None)
        per_arm = max(per_arm, weights * (1 + tensors) + 2 * weights * tensors)
        saved = _saved_for_backward(model, images) * counts.batch // len(images)
        activations = max(activations, saved)
    teachers = [
        new_model(config, dataset.num_classes, model_input(config, stream_images).own)
        for config in experiment.named_teachers.values()
    ]
    logits = BYTES_PER_FLOAT * dataset.num_classes * counts.evaluated * len(teachers)
    weights = BYTES_PER_FLOAT * sum(map(count_parameters, teachers))
    shared = weights + logits + _image_bytes(experiment, dataset, counts) + 3 * activations
    return JobMemory(shared, max(1, per_arm))


def _image_bytes(experiment: Experiment, dataset: DatasetInfo, counts: ImageCounts) -> int:
    """Return the bytes of the images in memory: all of them, or some batches if streamed."""
    pixels = dataset.in_channels * dataset.size[0] * dataset.size[1]
    if dataset.streamed:
        batch = max(counts.batch, OUTPUT_BATCH)
        batches_ahead = PREFETCH_FACTOR * ImageLoader(experiment.decoders).workers
        return pixels * batch * (1 + batches_ahead + BYTES_PER_FLOAT)
    return RESIDENT_COPIES * pixels * (counts.train + counts.evaluated)


def _saved_for_backward(model: torch.nn.Module, images: torch.Tensor) -> int:
    """Return the bytes of the distinct tensors that autograd saves in one forward pass."""
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = model.train()(images)
    del output
    return sum(size for pointer, size in sizes.items() if pointer not in parameters)


def epoch_time(arms: Sequence[Arm], device: torch.device) -> EpochTime:
    """Return the time of an epoch, from a few steps of each kind of student on blank images.

    Of a batch that takes long, the steps are timed on a part.
    """
    experiment = arms[0].experiment
    use_precision(device, experiment.precision)
    dataset = inspect(experiment)
    counts = _image_counts(experiment, dataset)
    teachers = {
        name: _untrained_teacher(experiment.taught_by(name), dataset, device)
        for name in experiment.named_teachers
    }
    teacher = teachers_by_name(teachers)
    labels = (torch.arange(counts.batch) % dataset.num_classes).to(device)
    students = {
        kind: ArmOnStream(untrained(arm, teacher.input.images), 0, teacher, labels)
        for kind, arm in _distinct_arms(arms).items()
    }
    images = _blank_images(teacher, counts.batch, device)
    count = _timed_images(teachers.values(), students.values(), images, device)
    images, labels = images[:count], labels[:count]
    needs = feature_needs(student.objective for student in students.values())
    strong = images if needs.strong_view else None
    batch: AnyBatch = Batch(images, labels, torch.arange(count, device=device), strong)
    if experiment.task == "detection":
        batch = scenes_of(images, dataset.num_classes)
    teacher_seconds = {
        name: _median_seconds(partial(teach, one, batch, needs), device)
        for name, one in teachers.items()
    }
    taught = teach(teacher, batch, needs)
    seconds = {
        kind: _median_seconds(partial(student.step, taught), device)
        for kind, student in students.items()
    }
    batches, parts = -(-counts.in_epoch // counts.batch), counts.batch / count
    evaluated_batches = counts.evaluated / counts.batch / 3  # a forward pass is a third of a step
    arm_seconds = sum(seconds[_student_kind(arm)] for arm in arms)
    read = counts.in_epoch + counts.evaluated
    return EpochTime(
        teachers={name: one * parts * batches for name, one in teacher_seconds.items()},
        arms=arm_seconds * parts * (batches + evaluated_batches),
        decoding=decoding_seconds(experiment, dataset, read) if dataset.streamed else 0.0,
    )


def _timed_images(
    teachers: Iterable[Teacher],
    students: Iterable[ArmOnStream],
    images: torch.Tensor,
    device: torch.device,
) -> int:
    """Return how many of the images the slowest model passes in a bearable time."""
    pixels = images.shape[2] * images.shape[3]
    few = images[: max(1, min(FEW_IMAGES, FEW_IMAGES * USUAL_PIXELS // pixels))]
    models: list[tuple[torch.nn.Module, ModelInput]] = [
        *((teacher.folded, teacher.input) for teacher in teachers),
        *((student.student, student.input) for student in students),
    ]
    with torch.no_grad():
        seconds = max(
            _median_seconds(partial(model, takes(few)), device) for model, takes in models
        )
    bearable = int(len(few) * MAX_SECONDS / max(seconds, 1e-9))
    return min(len(images), max(len(few), bearable))


def _blank_images(teacher: Teachers, count: int, device: torch.device) -> torch.Tensor:
    stream_images = teacher.input.images
    images = torch.zeros(count, stream_images.channels, *stream_images.size, device=device)
    return images.to(memory_format=torch.channels_last)


def _untrained_teacher(
    experiment: Experiment, dataset: DatasetInfo, device: torch.device
) -> Teacher:
    takes = model_input(experiment.teacher, plain_format(dataset.in_channels, dataset.size))
    return freeze(
        new_model(experiment.teacher, dataset.num_classes, takes.own),
        device,
        precision=experiment.precision,
        num_classes=dataset.num_classes,
        model_input=takes,
        task=task_for(experiment),
    )


def _median_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the median time of one to three calls, after one that is not counted."""
    times: list[float] = []
    while len(times) < 2 or (len(times) < 1 + TIMED_STEPS and sum(times[1:]) < MAX_SECONDS):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def _student_kind(arm: Arm) -> StudentKind:
    experiment = arm.experiment
    return experiment.student, experiment.method.name, experiment.training.optimizer


def _distinct_arms(arms: Sequence[Arm]) -> dict[StudentKind, Arm]:
    """Return one arm of each kind of student."""
    return {_student_kind(arm): arm for arm in arms}


def _image_counts(experiment: Experiment, dataset: DatasetInfo) -> ImageCounts:
    train, held_out = dataset.train_images, dataset.val_images + dataset.test_images
    recipe = experiment.training
    in_epoch = images_per_epoch(recipe, train)
    return ImageCounts(train, in_epoch, held_out, min(recipe.batch_size, train))
