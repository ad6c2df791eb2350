"""What a grid costs in lockstep: whole processes against whole processes.

    python benchmarks/grid_lockstep.py [--rounds 3] [--batches 12] [--all]

The grid is that of ablations/alpha_temperature.toml, 45 cells with their baseline, ResNet18 and
cnn2, 128 images of 32×32 a batch. Each command is measured over 2 and over 2 + BATCHES batches;
the difference counts start-up out. The separate trainings are `rkkd run`s of one cell: --all runs
all 45 of them, otherwise five cells stand for nine each. The last rows are the teacher's pass and
the students' own forward and backward passes in plain PyTorch, without loading, losses other than
cross-entropy, metrics or optimisers: what no trainer can do without. Images and the teacher's
weights are random: nothing here depends on them. Grid and separate runs take turns in each round.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from rkkd_cli.config.presets import load_experiment
from rkkd_cli.models import build_model
from rkkd_cli.records.environment import environment
from rkkd_cli.train.device import keep_freed_memory

CLASSES, BATCH, SHORT = 10, 128, 2
SAMPLE = ((0.1, 1.0), (0.25, 5.0), (0.5, 10.0), (0.75, 20.0), (0.9, 50.0))
PRESET = load_experiment("alpha_temperature")
CELLS = [
    (alpha, temperature)
    for alpha in PRESET.vary["method.alpha"]
    for temperature in PRESET.vary["method.temperature"]
]
ONE_CELL = """
[dataset]
name = "folder"
crop_padding = 4
flip = true
[teacher]
model = "ResNet18"
[student]
model = "cnn2"
[training]
epochs = 1
batch_size = 128
lr = 0.1
schedule = "cosine"
[method]
name = "soft_ce"
[arms.cell]
"""


def prepare(folder: Path, images: int) -> None:
    """Write an image folder, a teacher's weights and the preset of one cell."""
    generator = np.random.default_rng(0)
    for split, count in (("train", images), ("test", CLASSES)):
        for number in range(count):
            place = folder / "images" / split / f"class{number % CLASSES}"
            place.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
    torch.save(build_model("ResNet18", CLASSES, 3).state_dict(), folder / "teacher.pt")
    (folder / "cell.toml").write_text(ONE_CELL)


def seconds(folder: Path, batches: int, command: Sequence[str]) -> float:
    """Return the wall time of one process that trains over so many batches."""
    with tempfile.TemporaryDirectory(dir=folder) as results:
        words = [
            sys.executable, "-m", "rkkd_cli", *command, "--dataset=folder", "--data-root=images",
            "--teacher-weights=teacher.pt", f"--limit-train={batches * BATCH}", "--epochs=1",
            "--quiet", f"--out={results}",
        ]  # fmt: skip
        surroundings = {**os.environ, "RKKD_CACHE": str(folder / "cache")}
        started = time.perf_counter()
        subprocess.run(words, cwd=folder, env=surroundings, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


def grid(folder: Path, batches: int) -> float:
    """Return the seconds of the grid of 45 cells and its baseline."""
    return seconds(folder, batches, ["grid", "alpha_temperature", "--name=grid"])


def separate(folder: Path, batches: int, cells: Sequence[tuple[float, float]]) -> float:
    """Return the seconds of 45 runs, those of ``cells`` standing for all."""
    times = [
        seconds(folder, batches, ["run", "cell.toml", f"--alpha={a}", f"--temperature={t}"])
        for a, t in cells
    ]
    return sum(times) * len(CELLS) / len(cells)


def passes(batches: int) -> float:
    """Return the seconds of the teacher's pass and of 45 students' own passes, in plain PyTorch."""
    keep_freed_memory()
    images = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (BATCH,))
    teacher = build_model("ResNet18", CLASSES, 3).to(memory_format=torch.channels_last).eval()
    students = [
        build_model("cnn2", CLASSES, 3).to(memory_format=torch.channels_last) for _ in CELLS
    ]

    def step() -> None:
        with torch.no_grad():
            teacher(images)
        for student in students:
            torch.autograd.backward(F.cross_entropy(student(images), labels))
            student.zero_grad()

    step()
    started = time.perf_counter()
    for _ in range(batches):
        step()
    return time.perf_counter() - started


def per_batch(measure: Callable[[int], float], batches: int) -> tuple[float, float]:
    """Return (seconds of a batch without start-up, seconds of the whole longer process)."""
    short = measure(SHORT)
    long = measure(SHORT + batches)
    return (long - short) / batches, long


def row(name: str, unit: str, values: Sequence[float]) -> None:
    """Print median, minimum and maximum."""
    middle = statistics.median(values)
    print(f"{name:44} {middle:8.3f} {unit:2}   {min(values):.3f} to {max(values):.3f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--all", action="store_true", help="all 45 separate runs")
    options = parser.parse_args()
    cells = CELLS if options.all else SAMPLE
    grids, runs, floors, wholes = [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, (SHORT + options.batches) * BATCH)
        grid(folder, SHORT)  # fills the cache of decoded images
        for _ in range(options.rounds):
            step, whole = per_batch(lambda n: grid(folder, n), options.batches)
            alone, whole_alone = per_batch(lambda n: separate(folder, n, cells), options.batches)
            grids.append(step)
            runs.append(alone)
            wholes.append(whole_alone / whole)
            floors.append(passes(options.batches) / options.batches)
    facts = environment()
    print(f"{options.rounds} rounds of {options.batches} batches on {facts['processor']}, "
          f"{os.cpu_count()} cores, torch {facts['versions']['torch']}")  # fmt: skip
    row("grid of 45 cells and baseline, a batch", "s", grids)
    row(f"45 separate runs ({len(cells)} measured), a batch", "s", runs)
    row("teacher's and 45 students' passes, a batch", "s", floors)
    row(
        "separate / grid, start-up counted out",
        "×",
        [a / b for a, b in zip(runs, grids, strict=True)],
    )
    row("separate / grid, whole processes", "×", wholes)
    row("grid / passes", "×", [a / b for a, b in zip(grids, floors, strict=True)])


if __name__ == "__main__":
    main()
