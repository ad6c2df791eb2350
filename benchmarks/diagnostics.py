"""What the logit diagnostics cost: their share of a training step of two arms.

    python benchmarks/diagnostics.py [--rounds 30] [--threads 2]

A step is the teacher's pass, both arms' steps and the recording of all terms, on random images of
the presets' shapes; one in ``GRADIENT_LOG_INTERVAL`` steps is diagnosed. Both are timed in turns.
"""

import argparse
import statistics
import time

import torch

from rkkd_cli.config.presets import load_experiment
from rkkd_cli.data.model_input import taken_as_is
from rkkd_cli.data.stream import Batch
from rkkd_cli.methods.teacher_outputs import logits_of
from rkkd_cli.models import build_model
from rkkd_cli.records.environment import environment
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.device import describe_device, keep_freed_memory, use_threads
from rkkd_cli.train.metrics.gradients import GRADIENT_LOG_INTERVAL, diagnose
from rkkd_cli.train.record_step import record_metrics
from rkkd_cli.train.taught_batch import feature_needs, run_teacher
from rkkd_cli.train.teacher.model import freeze

CPU = torch.device("cpu")
# Images of the presets: batch, channels, side and classes; and the share of the rounds they get.
SHAPES = {
    "rank_grad": (64, 1, 8, 10, 1.0),
    "rank_grad_cifar100_small": (64, 3, 32, 100, 1.0),
    "rank_grad_cifar100": (64, 3, 32, 100, 0.2),
}


def seconds(preset: str, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each round's step, and of its diagnostics."""
    batch_size, channels, side, classes, share = SHAPES[preset]
    experiment = load_experiment(preset)
    model = build_model(experiment.teacher.model, classes, channels)
    teacher = freeze(model, CPU, "fp32", classes, taken_as_is(channels, (side, side)))
    labels = torch.arange(batch_size) % classes
    images = torch.randn(batch_size, channels, side, side)
    batch = Batch(images.to(memory_format=torch.channels_last), labels, torch.arange(batch_size))
    arms = [ArmOnStream(arm, 0, teacher, labels) for arm in experiment.resolved_arms]
    objectives = [arm.objective for arm in arms]
    steps, diagnoses = [], []
    for _ in range(2 + max(3, round(share * rounds))):
        started = time.perf_counter()
        taught = run_teacher(teacher, batch, feature_needs(objectives))
        stepped = [arm.step(taught) for arm in arms]
        record_metrics(arms, stepped, taught)
        between = time.perf_counter()
        diagnose(objectives, torch.cat([one.outputs for one in stepped]), logits_of(taught.teacher))
        steps.append(between - started)
        diagnoses.append(time.perf_counter() - between)
    return steps[2:], diagnoses[2:]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    use_threads(options.threads)
    keep_freed_memory()
    facts = environment()
    print(f"{describe_device(CPU)}, {torch.get_num_threads()} threads, {facts['processor']}, "
          f"torch {facts['versions']['torch']}")  # fmt: skip
    for preset in SHAPES:
        steps, diagnoses = seconds(preset, options.rounds)
        shares = [
            100 * one / (GRADIENT_LOG_INTERVAL * step)
            for one, step in zip(diagnoses, steps, strict=True)
        ]
        times = f"{1e3 * statistics.median(steps):.2f} ms a step"
        once = f"{1e3 * statistics.median(diagnoses):.2f} ms when diagnosed"
        spread = f"{min(shares):.2f} to {max(shares):.2f}"
        print(f"{preset}: {times}, {once}, one in {GRADIENT_LOG_INTERVAL}: "
              f"{statistics.median(shares):.2f} % of a step ({spread})")  # fmt: skip


if __name__ == "__main__":
    main()
