"""How time and memory grow with arms, classes, batch size and epochs of history.

    python benchmarks/growth.py [--quick] [--figure results/growth.png]

Every point is a process of its own: the median of its steps, and the peak of its memory above what
it had before. Arms: a lockstep step of the preset rank_grad (digits). Classes: value and gradient
of the ranking loss, 8 images. Batch size: a step of the pair of rank_grad_cifar100_small. History:
a seed's rows of one epoch of 45 arms appended to metrics.csv, and the whole file read. Memory there
is mostly that of the rows made up before.
"""

import argparse
import math
import multiprocessing as mp
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from history import ARMS, HEADER, epoch_of
from turns import Row, parser, show

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.data.model_input import taken_as_is
from rkkd_cli.data.stream import Batch
from rkkd_cli.losses import kendall_ranking_loss
from rkkd_cli.models import build_model
from rkkd_cli.records.metrics import append_lines, header_line, read_metrics
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.device import keep_freed_memory, use_threads
from rkkd_cli.train.record_step import record_metrics
from rkkd_cli.train.taught_batch import feature_needs, run_teacher
from rkkd_cli.train.teacher.model import freeze

CPU = torch.device("cpu")
SIZES: Mapping[str, Sequence[int]] = {
    "arms": (1, 2, 4, 8, 16, 32, 64),
    "classes": (10, 100, 1000, 4000, 10_000, 32_000),
    "batch size": (16, 32, 64, 128, 256),
    "epochs, appending": (1, 15, 60, 240),
    "epochs, reading": (1, 15, 60, 240),
}
# The exponent that the work itself has: pairs of classes, pairs being what the ranking loss is.
NEEDED = {"arms": 1, "classes": 2, "batch size": 1, "epochs, appending": 0, "epochs, reading": 1}


class Point(NamedTuple):
    """Seconds, and bytes at the peak above the start."""

    size: int
    seconds: float
    memory: float


def _lockstep(preset: str, arms: int, batch_size: int, shape: tuple[int, int, int]) -> float:
    experiment = _with_arms(load_experiment(preset), arms)
    classes = 10 if shape[0] == 1 else 100
    model = build_model(experiment.teacher.model, classes, shape[0])
    teacher = freeze(model, CPU, "fp32", classes, taken_as_is(shape[0], shape[1:]))
    labels = torch.arange(batch_size) % classes
    images = torch.randn(batch_size, *shape).to(memory_format=torch.channels_last)
    batch = Batch(images, labels, torch.arange(batch_size))
    several = [ArmOnStream(arm, 0, teacher, labels) for arm in experiment.resolved_arms]
    needs = feature_needs(arm.objective for arm in several)

    def step() -> None:
        taught = run_teacher(teacher, batch, needs)
        record_metrics(several, [arm.step(taught) for arm in several], taught)

    return _median(step, 9)


def _with_arms(experiment: Experiment, count: int) -> Experiment:
    arms = {f"arm{n}": {"rank": {"grad": True, "weight": 0.1 + n / 64}} for n in range(count)}
    return experiment.model_copy(update={"arms": arms})


def _classes(count: int) -> float:
    student, teacher = torch.randn(8, count, requires_grad=True), torch.randn(8, count)

    def step() -> None:
        torch.autograd.backward(kendall_ranking_loss(student, teacher, steepness=100.0))

    return _median(step, 3 if count > 5000 else 9)


def _history(epochs: int, reads: bool) -> float:
    arms, noise = [f"arm{number}" for number in range(ARMS)], np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.csv"
        path.write_text(header_line(HEADER), encoding="utf-8")
        whole = [epoch_of(s, e, arms, noise) for s in range(5) for e in range(1, epochs + 1)]
        append_lines(path, "".join(whole))
        if reads:
            return _median(lambda: read_metrics(path), 5)
        return _median(lambda: append_lines(path, epoch_of(9, 1, arms, noise)), 9)


def _median(step: Callable[[], object], times: int) -> float:
    step()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        step()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _seconds(kind: str, size: int) -> float:
    match kind:
        case "arms":
            return _lockstep("rank_grad", size, 64, (1, 8, 8))
        case "classes":
            return _classes(size)
        case "batch size":
            return _lockstep("rank_grad_cifar100_small", 2, size, (3, 32, 32))
        case _:
            return _history(size, reads=kind.endswith("reading"))


def point(kind: str, size: int) -> Point:
    """Measure one size; called in a process of its own."""
    use_threads(2)
    keep_freed_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = _seconds(kind, size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Point(size, seconds, 1024.0 * (peak - before))


def measure(quick: bool) -> dict[str, list[Point]]:
    """Return the points of all sizes."""
    context = mp.get_context("spawn")
    found: dict[str, list[Point]] = {}
    for kind, sizes in SIZES.items():
        for size in sizes[:-1] if quick else sizes:
            with context.Pool(1) as pool:
                found.setdefault(kind, []).append(pool.apply(point, (kind, size)))
    return found


def exponent(points: Sequence[Point]) -> float:
    """Return the exponent between the two largest sizes: time ∝ size^exponent."""
    (small, fast, _), (large, slow, _) = points[-2:]
    return math.log(slow / fast) / math.log(large / small)


def rows_of(found: Mapping[str, Sequence[Point]]) -> list[Row]:
    """Return a row a point, and one for each exponent."""
    rows = []
    for kind, points in found.items():
        for one in points:
            memory = f"{one.memory / 1e6:,.0f} MB more"
            rows.append(Row(f"{kind}: {one.size:,}", 1e3 * one.seconds, *2 * (1e3 * one.seconds,),
                            "ms", memory))  # fmt: skip
        grown = exponent(points)
        rows.append(Row(f"{kind}: exponent", grown, grown, grown, "", f"needed: {NEEDED[kind]}"))
    return rows


def draw(found: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Draw time and memory against each size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5), layout="constrained")
    panels = figure.subplots(2, len(found), sharex="col")
    for column, (kind, points) in enumerate(found.items()):
        time_axes, memory_axes = panels[0][column], panels[1][column]
        sizes = [one.size for one in points]
        times = [1e3 * one.seconds for one in points]
        time_axes.plot(sizes, times, "o-", color="#0072B2")
        memory_axes.plot(sizes, [one.memory / 1e6 for one in points], "o-", color="#D55E00")
        time_axes.set(title=kind, yscale="log", xscale="log")
        time_axes.set_ylim(min(times) / 3, max(times) * 3)
        memory_axes.set_ylim(0, 1.15 * max(1, *(one.memory / 1e6 for one in points)))
        memory_axes.set_xlabel(kind.partition(",")[0])
        memory_axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45, minor=False)
        memory_axes.set_xticks([], minor=True)
        for axes in (time_axes, memory_axes):
            axes.grid(color="#e6e6e6")
    panels[0][0].set_ylabel("ms")
    panels[1][0].set_ylabel("MB at the peak")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print and draw."""
    own = parser(__doc__)
    own.add_argument("--quick", action="store_true", help="leave out the largest sizes")
    own.add_argument("--figure", type=Path, default=None)
    options: argparse.Namespace = own.parse_args()
    found = measure(options.quick)
    show(rows_of(found))
    if options.figure:
        draw(found, options.figure)


if __name__ == "__main__":
    main()
