"""How long a job will take and how much memory it needs, measured on this device."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import psutil
import torch

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.catalogue import Shape, load_dataset, peek
from rkkd_cli.data.stream import Batch
from rkkd_cli.data.streaming.crops import Cut
from rkkd_cli.data.streaming.pool import AHEAD
from rkkd_cli.data.streaming.split import ListedImages
from rkkd_cli.data.streaming.worker import Order, decode
from rkkd_cli.models import build_model, count_parameters
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.check import RESIDENT_COPIES, dataset_request
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.device import use_precision
from rkkd_cli.train.metrics.evaluate import EVALUATION_BATCH
from rkkd_cli.train.taught_batch import feature_needs, run_teacher
from rkkd_cli.train.teacher.model import freeze

# The share of the free memory that jobs may plan with.
USABLE = 0.8
FLOAT = 4
OPTIMIZER_TENSORS = {"sgd": 1, "adamw": 2}
TIMED_STEPS, DECODED_IMAGES = 3, 16


class Memory(NamedTuple):
    """Bytes that a job needs whatever its arms are, and that each further arm adds."""

    shared: int
    per_arm: int

    def max_arms(self, free: int) -> int:
        """Return how many arms fit into so many free bytes, at least one."""
        return max(1, int((USABLE * free - self.shared) // self.per_arm))


def free_memory(device: torch.device) -> int:
    """Return the free bytes where the arms will be."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def memory_of(arms: Sequence[Arm]) -> Memory:
    """Return the memory of a job with these arms.

    An arm keeps its weights, their gradients and the optimiser's tensors, twice more while a
    checkpoint is written. Activations are shared: the arms step one after another, so only the
    largest student's count, measured as what one forward pass saves for its backward pass.
    """
    experiment = arms[0].experiment
    shape = peek(dataset_request(experiment))
    images = torch.zeros(_batch_size(experiment, shape), shape.in_channels, *shape.size)
    saved, kept = 0, 0
    for arm in _one_of_each(arms):
        model = build_model(
            arm.experiment.student.model, shape.num_classes, shape.in_channels, shape.size
        )
        weights = FLOAT * count_parameters(model)
        tensors = 1 + OPTIMIZER_TENSORS[arm.experiment.training.optimizer]
        kept = max(kept, weights * (1 + tensors) + 2 * weights * tensors)
        saved = max(saved, _saved_for_backward(model, images[:2]) * len(images) // 2)
    teacher = build_model(
        experiment.teacher.model, shape.num_classes, shape.in_channels, shape.size
    )
    logits = FLOAT * shape.num_classes * _test_images(experiment, shape)
    held = logits + _bytes_of_images(experiment, shape)
    shared = FLOAT * count_parameters(teacher) + held + 3 * saved
    return Memory(shared, max(1, kept))


def _bytes_of_images(experiment: Experiment, shape: Shape) -> int:
    """Return the bytes of the images that are in memory: all and a copy, or a stream's batches."""
    pixels = shape.in_channels * shape.size[0] * shape.size[1]
    if shape.streamed:
        batch = max(_batch_size(experiment, shape), EVALUATION_BATCH)
        return pixels * batch * (1 + AHEAD + FLOAT)
    return (
        RESIDENT_COPIES
        * pixels
        * (_train_images(experiment, shape) + _test_images(experiment, shape))
    )


def _saved_for_backward(model: torch.nn.Module, images: torch.Tensor) -> int:
    """Return the bytes of the distinct tensors that autograd keeps for one forward pass."""
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    parameters = {one.untyped_storage().data_ptr() for one in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = model.train()(images)
    del output
    return sum(size for pointer, size in sizes.items() if pointer not in parameters)


class Time(NamedTuple):
    """Seconds of an epoch of a job: its teacher, all its arms, and the decoding of a stream."""

    teacher: float
    arms: float
    decoding: float = 0.0

    @property
    def epoch(self) -> float:
        """Seconds of the whole epoch, evaluation included; a stream is decoded meanwhile."""
        return max(self.decoding, self.teacher + self.arms)


def epoch_time(arms: Sequence[Arm], device: torch.device) -> Time:
    """Return the time of an epoch, from a few steps of each kind of student on blank images."""
    experiment = arms[0].experiment
    use_precision(device, experiment.precision)
    shape = peek(dataset_request(experiment))
    size = _batch_size(experiment, shape)
    teacher = freeze(
        build_model(experiment.teacher.model, shape.num_classes, shape.in_channels, shape.size),
        device, experiment.precision, shape.num_classes, shape.in_channels, shape.size,
    )  # fmt: skip
    images = torch.zeros(size, shape.in_channels, *shape.size, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = (torch.arange(size) % shape.num_classes).to(device)
    one_of_each = [ArmOnStream(arm, 0, teacher, labels) for arm in _one_of_each(arms)]
    needs = feature_needs(arm.objective for arm in one_of_each)
    strong = images if needs.strong_view else None
    batch = Batch(images, labels, torch.arange(size, device=device), strong)
    teaching = _seconds(lambda: run_teacher(teacher, batch, needs), device)
    taught = run_teacher(teacher, batch, needs)
    steps_of = [_seconds(partial(one.step, taught), device) for one in one_of_each]
    students = dict(zip(map(_kind, _one_of_each(arms)), steps_of, strict=True))
    batches = -(-_train_images(experiment, shape) // size)
    evaluated = _test_images(experiment, shape) / size / 3  # forward alone: a third of a step
    steps = sum(students[_kind(arm)] for arm in arms)
    seconds = teaching * batches, steps * (batches + evaluated)
    return Time(*seconds, _decoding(experiment, shape) if shape.streamed else 0.0)


def _decoding(experiment: Experiment, shape: Shape) -> float:
    """Return the seconds in which the decoders read the images of an epoch, from a few of them."""
    dataset = load_dataset(dataset_request(experiment), cache_directory())
    assert isinstance(dataset.train, ListedImages)
    cut, count = Cut(shape.size[0], "random"), len(dataset.train)
    numbers = range(0, count, -(-count // DECODED_IMAGES))
    orders = [Order(dataset.train.path(number), cut, number) for number in numbers]
    decode(orders[0])  # loads what decodes this format
    started = time.perf_counter()
    for order in orders:
        decode(order)
    seconds = (time.perf_counter() - started) / len(orders)
    images = _train_images(experiment, shape) + _test_images(experiment, shape)
    return seconds * images / max(1, dataset.train.decoders.processes)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the median time of some calls, after one that is not counted."""
    times = []
    for _ in range(1 + TIMED_STEPS):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def _kind(arm: Arm) -> tuple[str, str, str]:
    experiment = arm.experiment
    return experiment.student.model, experiment.method.name, experiment.training.optimizer


def _one_of_each(arms: Sequence[Arm]) -> list[Arm]:
    return list({_kind(arm): arm for arm in arms}.values())


def _batch_size(experiment: Experiment, shape: Shape) -> int:
    return min(experiment.training.batch_size, _train_images(experiment, shape))


def _train_images(experiment: Experiment, shape: Shape) -> int:
    all_images = experiment.dataset.limit_train or shape.train_images
    return all_images - round(experiment.dataset.val_share * all_images)


def _test_images(experiment: Experiment, shape: Shape) -> int:
    """Return how many images are evaluated after an epoch."""
    all_images = experiment.dataset.limit_train or shape.train_images
    held_out = round(experiment.dataset.val_share * all_images)
    return held_out + (experiment.dataset.limit_test or shape.test_images)
