"""The error and the size of a teacher's top logits with the rest, against those of all its logits.

    python benchmarks/kept_logits.py RUN [--arm kd] [--temperatures 1 4] [--top 8 16 32 64]

RUN is a run directory with trained students, such as results/NAME. On all test images, the KL
divergence over K + 1 bins and its gradient by the student's logits (cache_teacher = top:K) are
compared with those over all classes, for the trained student and for one with its first weights:

- the teacher's mass outside the top K, a mean over the images;
- the mean divergence over K + 1 bins, as a part of that over all classes;
- the length of the gradient's error, as a part of the gradient's length, both over all images;
- the cosine between the two gradients;
- the bytes of an image, and of one of ImageNet's (1,000 classes) and of ImageNet-21k's (21,843).
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.config.presets import read_experiment
from rkkd_cli.losses import TopLogits, kl_divergence, tail_bin_kl_divergence, top_logits
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.records.environment import environment
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.recording.run_state import Origin
from rkkd_cli.sweep.sources import open_sources
from rkkd_cli.sweep.students.student import read_student
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.metrics.evaluate import TaughtSplit, all_outputs
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController
from rkkd_cli.train.teacher.logit_rows import row_format

CPU = torch.device("cpu")
CLASSES = {"ImageNet": 1000, "ImageNet-21k": 21_843}


class Logits(NamedTuple):
    """The logits (N, C) of a student, which is ``trained`` or not, and of its teacher."""

    name: str
    student: Tensor
    teacher: Tensor


def logits_of(path: Path, name: str) -> Iterator[Logits]:
    """Yield the logits of an arm's first student on the test images, trained and not."""
    run = RunDirectory(path)
    trained = read_student(run, name)
    (arm,) = (one for one in read_experiment(run.experiment).resolved_arms if one.name == name)
    runtime = Runtime(CPU, cache_directory(), StopController(60.0))
    opening = open_sources(arm.experiment, runtime, Origin(teachers=path))
    while True:
        try:
            next(opening)
        except StopIteration as end:
            sources = end.value
            break
    test = sources.held_out["test"]
    assert isinstance(test, TaughtSplit)
    assert isinstance(test.teacher_outputs, Tensor)
    untrained = ArmOnStream(arm, trained.seed, sources.teacher, test.images.labels)
    students = {"first weights": untrained.student, "trained": trained.module}
    for what, model in students.items():
        logits = all_outputs(model, test.images, arm.experiment.precision, untrained.input)
        yield Logits(what, logits, test.teacher_outputs)


def with_gradient(student: Tensor, teacher: Tensor | TopLogits, t: float) -> tuple[float, Tensor]:
    """Return the divergence at temperature t, over all classes or K + 1 bins, and its gradient."""
    leaf = student.clone().requires_grad_()
    if isinstance(teacher, TopLogits):
        loss = tail_bin_kl_divergence(leaf, teacher, t)
    else:
        loss = kl_divergence(leaf, teacher, t)
    return loss.item(), torch.autograd.grad(loss, leaf)[0]


def errors(logits: Logits, t: float, count: int) -> str:
    """Return the line of a temperature and a number of classes."""
    student, teacher = logits.student.double(), logits.teacher.double()
    kept = top_logits(teacher, count, (t,))
    mass = 1 - (teacher / t).softmax(dim=1).gather(1, kept.indices).sum(dim=1).mean().item()
    whole, gradient = with_gradient(student, teacher, t)
    part, approximate = with_gradient(student, kept, t)
    error = ((approximate - gradient).norm() / gradient.norm()).item()
    cosine = F.cosine_similarity(approximate.flatten(), gradient.flatten(), dim=0).item()
    size = row_format(f"top:{count}", student.shape[1], (t,)).dtype.itemsize
    return (f"{logits.name:14} {t:4g} {count:5} {100 * mass:8.3f} % {100 * part / whole:8.2f} % "
            f"{100 * error:9.2f} % {cosine:8.4f} {size:6} of {4 * student.shape[1]}")  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--arm", default="kd")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 4.0])
    parser.add_argument("--top", type=int, nargs="+", default=[8, 16, 32, 64])
    options = parser.parse_args()
    facts = environment()
    print(f"{options.run.name}, arm {options.arm}: {facts['processor']}, "
          f"torch {facts['versions']['torch']}")  # fmt: skip
    print("student           T   top  mass left     KL kept  gradient's error  cosine  bytes")
    for logits in logits_of(options.run, options.arm):
        for t in options.temperatures:
            for count in options.top:
                print(errors(logits, t, count), flush=True)
    for name, classes in CLASSES.items():
        sizes = (
            row_format(f"top:{count}", classes, (4.0,)).dtype.itemsize for count in options.top
        )
        rows = ", ".join(f"top:{k} {size}" for k, size in zip(options.top, sizes, strict=True))
        print(f"bytes of an image of {name} at one temperature: {rows}, all {4 * classes}")


if __name__ == "__main__":
    main()
