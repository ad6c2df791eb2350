"""The ranking loss against plain autograd: time and extra memory; and what logging it costs.

    python benchmarks/ranking_loss.py [--rounds 15] [--threads 2] [--keep-freed-memory] [--no-step]

Plain is what one writes down: all pairwise differences, tanh, the mean, autograd. Value and
gradient of random float32 logits, the two in turns in one process; a ratio is of one round. Extra
memory is what the peak of resident memory grows by in a process of its own, whose first call, on
few classes, is not counted. Where freed memory is kept, as a run of rkkd keeps it, the plain form
is several times faster than in a PyTorch program that does nothing of the kind. Where there is a
GPU, our time there is also given in parts of the least that its special functions allow (see
rkkd_cli/losses/kernels/triton_tiles.py).
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.config.presets import load_experiment
from rkkd_cli.data.model_input import taken_as_is
from rkkd_cli.data.stream import Batch
from rkkd_cli.losses import kendall_ranking_loss
from rkkd_cli.losses.ranking import ranking_per_image
from rkkd_cli.models import build_model
from rkkd_cli.records.environment import environment
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.device import describe_device, keep_freed_memory, use_threads
from rkkd_cli.train.metrics.batch import kendall_tau, map_ranking
from rkkd_cli.train.record_step import record_metrics
from rkkd_cli.train.taught_batch import feature_needs, run_teacher
from rkkd_cli.train.teacher.model import freeze

CPU = torch.device("cpu")
Loss = Callable[[Tensor, Tensor, float], Tensor]


class Case(NamedTuple):
    """B, C and k, and whether the plain form fits in memory."""

    batch: int
    classes: int
    steepness: float
    plain: bool = True


CASES = (
    *(Case(batch, classes, k) for batch, classes in ((32, 1000), (64, 100)) for k in (1, 10, 100)),
    Case(8, 32_000, 10, plain=False),
    Case(8, 32_000, 100, plain=False),
)


def plain(student: Tensor, teacher: Tensor, k: float) -> Tensor:
    """Return the ranking loss as autograd differentiates it: every pair stands there twice."""
    classes = student.shape[1]
    of_student = torch.tanh(k * (student[:, :, None] - student[:, None, :]))
    of_teacher = torch.tanh(k * (teacher[:, :, None] - teacher[:, None, :]))
    return -(of_teacher * of_student).mean() * classes / (classes - 1)


LOSSES: dict[str, Loss] = {"plain": plain, "ours": kendall_ranking_loss}


def inputs(case: Case, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
    """Return the student's and the teacher's logits."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, case.batch, case.classes, generator=generator).to(device)
    return student.requires_grad_(), teacher


def seconds(loss: Loss, student: Tensor, teacher: Tensor, k: float) -> float:
    """Return how long value and gradient take."""
    started = time.perf_counter()
    torch.autograd.grad(loss(student, teacher, k), student)
    return time.perf_counter() - started


def rounds_of(case: Case, rounds: int) -> list[dict[str, float]]:
    """Return the seconds of each loss in each round, the losses in turns."""
    losses = {name: one for name, one in LOSSES.items() if case.plain or name == "ours"}
    given = (*inputs(case), case.steepness)
    for one in losses.values():
        seconds(one, *given)
    return [{name: seconds(one, *given) for name, one in losses.items()} for _ in range(rounds)]


def extra_memory(name: str, case: Case) -> int:
    """Return the bytes by which the peak of a fresh process grows while it computes the loss."""
    numbers = [str(one) for one in (case.batch, case.classes, case.steepness)]
    command = [sys.executable, __file__, "--threads", str(torch.get_num_threads()), "--memory"]
    answer = subprocess.run([*command, name, *numbers], capture_output=True, text=True, check=True)
    return int(answer.stdout)


def growth(name: str, case: Case) -> int:
    """Return the bytes by which this process's peak grows."""
    seconds(LOSSES[name], *inputs(case._replace(classes=20)), case.steepness)
    given = (*inputs(case), case.steepness)
    before = _forget_peak()
    seconds(LOSSES[name], *given)
    return _peak() - before


def _forget_peak() -> int:
    """Begin the measurement of the peak again; return what it is."""
    with suppress(OSError):  # where Linux does not help, what was held before may hide some growth
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak()


def _peak() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def logging_shares(
    preset: str, shape: tuple[int, int, int, int], rounds: int
) -> dict[str, list[float]]:
    """Return the shares of a lockstep step that recording the ranking loss, and τ-b, takes.

    The step is the teacher's pass, both arms' steps and the recording of all terms.
    """
    experiment = load_experiment(preset)
    classes = 100
    model = build_model(experiment.teacher.model, classes, shape[1])
    teacher = freeze(model, CPU, "fp32", classes, taken_as_is(shape[1], shape[2:]))
    labels = torch.arange(shape[0]) % classes
    images = torch.randn(*shape).to(memory_format=torch.channels_last)
    batch = Batch(images, labels, torch.arange(shape[0]))
    arms = [ArmOnStream(arm, 0, teacher, labels) for arm in experiment.resolved_arms]
    objectives = [arm.objective for arm in arms]
    shares: dict[str, list[float]] = {"rank": [], "kendall_tau": []}
    for _ in range(2 + rounds):
        started = time.perf_counter()
        taught = run_teacher(teacher, batch, feature_needs(objectives))
        stepped = [arm.step(taught) for arm in arms]
        record_metrics(arms, stepped, taught)
        after_step = time.perf_counter()
        students = torch.cat([one.outputs for one in stepped])
        teachers = teacher.outputs(images, features=False).logits.expand(students.shape)
        begun = time.perf_counter()
        map_ranking(ranking_per_image, objectives, students, teachers)
        between = time.perf_counter()
        kendall_tau(students, teachers)
        shares["rank"].append((between - begun) / (after_step - started))
        shares["kendall_tau"].append((time.perf_counter() - between) / (after_step - started))
    return {name: values[2:] for name, values in shares.items()}


def least_seconds(case: Case, device: torch.device) -> float:
    """Return what the special functions of the pairs take at 16 a clock and multiprocessor."""
    from rkkd_cli.losses.kernels.triton_tiles import SPECIAL_FUNCTIONS

    properties = torch.cuda.get_device_properties(device)
    pairs = case.batch * case.classes * (case.classes - 1) / 2
    clock = 1e3 * getattr(properties, "clock_rate", 0) or 1e6 * float(nvidia_smi("clocks.max.sm"))
    return pairs * SPECIAL_FUNCTIONS / (16 * properties.multi_processor_count * clock)


def nvidia_smi(what: str) -> str:
    """Return what the driver says of the first GPU. Raises OSError or CalledProcessError."""
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    return answer.stdout.splitlines()[0].strip()


def gpu_rounds(case: Case, device: torch.device, rounds: int) -> list[float]:
    """Return the seconds of value and gradient on the GPU, in each round the mean of ten calls."""
    student, teacher = inputs(case, device)
    found = []
    for _ in range(rounds + 2):
        begin, end = (torch.Event(device, enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(10):
            torch.autograd.grad(kendall_ranking_loss(student, teacher, case.steepness), student)
        end.record()
        torch.cuda.synchronize()
        found.append(begin.elapsed_time(end) / 1e4)
    return found[2:]


def spread(values: Sequence[float], unit: float, digits: int) -> str:
    """Return the median, and the least and the most in brackets."""
    numbers = (statistics.median(values), min(values), max(values))
    middle, low, high = (f"{one / unit:.{digits}f}" for one in numbers)
    return f"{middle} ({low} to {high})"


def row_of(case: Case, rounds: int) -> str:
    """Return the table's row of a case."""
    measured = rounds_of(case, rounds if case.plain else min(rounds, 3))
    memory = {name: extra_memory(name, case) for name in measured[0]}
    cells = [str(case.batch), str(case.classes), f"{case.steepness:g}"]
    for name in LOSSES:
        if name in memory:
            cells += [spread([one[name] for one in measured], 1e-3, 2), f"{memory[name] / 1e6:.1f}"]
        else:
            cells += ["–", "–"]
    if case.plain:
        cells.append(spread([one["plain"] / one["ours"] for one in measured], 1, 1))
        cells.append(f"{100 * memory['ours'] / memory['plain']:.2f}")
    else:
        cells += ["–", "–"]
    return "| " + " | ".join(cells) + " |"


def gpu_text(rounds: int) -> str:
    """Return what was measured on the GPU, or that there is none."""
    if not torch.cuda.is_available():
        return "CUDA: not measured, there is no GPU"
    device, case = torch.device("cuda"), Case(32, 1000, 10)
    measured, least = gpu_rounds(case, device, rounds), least_seconds(case, device)
    return (
        f"{torch.cuda.get_device_name(device)}, B = 32, C = 1000: {spread(measured, 1e-6, 1)} µs, "
        f"{spread(measured, least, 2)} times the special functions' limit of {least * 1e6:.1f} µs"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--no-step", action="store_true", help="leave out the share of a step")
    parser.add_argument("--keep-freed-memory", action="store_true", help="as a run does")
    parser.add_argument("--memory", nargs=4, metavar=("LOSS", "B", "C", "K"), help="used by itself")
    options = parser.parse_args()
    use_threads(options.threads)
    if options.memory:
        name, batch, classes, k = options.memory
        print(growth(name, Case(int(batch), int(classes), float(k))))
        return
    if options.keep_freed_memory:
        keep_freed_memory()
    facts = environment()
    kept = ", freed memory kept" if options.keep_freed_memory else ""
    print(f"{options.rounds} rounds on {describe_device(CPU)}{kept}, {facts['processor']}, "
          f"torch {facts['versions']['torch']}: median (least to most)\n")  # fmt: skip
    print("| B | C | k | plain, ms | plain, MB | ours, ms | ours, MB | faster | memory, % |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in CASES:
        print(row_of(case, options.rounds), flush=True)
    print(f"\n{gpu_text(options.rounds)}")
    if not options.no_step:
        keep_freed_memory()
        shares = logging_shares("rank_grad_cifar100", (64, 3, 32, 32), 3)
        for name, values in shares.items():
            print(f"rank_grad_cifar100, recording {name}: {spread(values, 1e-2, 3)} % of a step")


if __name__ == "__main__":
    main()
