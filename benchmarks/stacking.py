"""A step of 46 arms: one after another, and as one stacked student.

    python benchmarks/stacking.py [--rounds 5] [--device cpu] [--threads 2]

The arms are those of the presets alpha_temperature_digits (438 parameters, 8×8 images) and
alpha_temperature (5,466 parameters, 32×32 images), on random images; the teacher's pass is not
counted. `--stack` and `--no-stack` choose for a run.
"""

import argparse
import statistics

import torch

from rkkd_cli.config.presets import load_experiment
from rkkd_cli.data.model_input import taken_as_is
from rkkd_cli.data.stream import Batch
from rkkd_cli.models import build_model
from rkkd_cli.records.environment import environment
from rkkd_cli.train.device import describe_device, keep_freed_memory, use_threads
from rkkd_cli.train.stacked.trial import seconds_per_step
from rkkd_cli.train.teacher.model import freeze

SHAPES: dict[str, tuple[int, int, int, int]] = {
    "alpha_temperature_digits": (64, 1, 8, 8),
    "alpha_temperature": (128, 3, 32, 32),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    use_threads(options.threads)
    keep_freed_memory()
    device, facts = torch.device(options.device), environment()
    print(f"{options.rounds} rounds on {describe_device(device)}, {facts['processor']}, "
          f"torch {facts['versions']['torch']}")  # fmt: skip
    for preset, shape in SHAPES.items():
        arms = load_experiment(preset).resolved_arms
        teacher = freeze(
            build_model("cnn2", 10, shape[1]), device, "fp32", 10, taken_as_is(shape[1], shape[2:])
        )
        images = torch.randn(shape, device=device).to(memory_format=torch.channels_last)
        labels = torch.randint(0, 10, shape[:1], device=device)
        batch = Batch(images, labels, torch.arange(shape[0], device=device))
        rounds = [seconds_per_step(arms, 0, teacher, batch, labels) for _ in range(options.rounds)]
        alone, stacked = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratios = [one / other for one, other in rounds]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        times = f"{1e3 * alone:.1f} ms one after another, {1e3 * stacked:.1f} ms stacked"
        print(f"{preset}: {times}, ratio {spread}")


if __name__ == "__main__":
    main()
