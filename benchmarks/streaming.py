"""What streaming an image folder costs: its first epoch against plain decoding, and memory.

    python benchmarks/streaming.py [--images DIR] [--count 3000] [--rounds 5] [--processes 1,2]

Writes COUNT JPEGs of 500×375 pixels, enlarged from the images below DIR with some grain (without
DIR from smooth noise), and measures both in turns, in processes of their own:

- plain: so many processes that decode, crop and scale their share of the files in a loop, without
  anything else; the time of the slowest, start-up not counted;
- stream: a first epoch of batches of 64 through `Stream`, normalised on the CPU, from its
  beginning: the start of DataLoader's workers counts, that of the program does not.

Then the peak memory of an epoch over folders of other sizes, all links to the same files. The files
are in the page cache: a disk that is slower than the decoders sets the speed instead.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rkkd_cli.records.environment import environment

CLASSES, HELD_OUT = 10, 20
PLAIN = """
import sys, time
import torch
from rkkd_cli.data.streaming.crops import Crop
from rkkd_cli.data.streaming.loader import DecodeTask, decode
torch.set_num_threads(1)
crop = Crop(224, "random", True)
tasks = [DecodeTask(line.strip(), crop, (n,)) for n, line in enumerate(sys.stdin)]
started = time.perf_counter()
for task in tasks:
    decode([task])
print(time.perf_counter() - started)
"""
STREAM = """
import resource, sys, time
import torch
from pathlib import Path
from rkkd_cli.data.catalogue import DatasetRequest
from rkkd_cli.data.reading import load_dataset
from rkkd_cli.data.stream import Stream
torch.set_num_threads(1)
if __name__ == "__main__":
    request = DatasetRequest("folder", sys.argv[1], streaming=True, decoders=int(sys.argv[2]))
    dataset = load_dataset(request, Path("nowhere"))
    started = time.perf_counter()
    for batch in Stream(dataset, torch.device("cpu"), 64, 0).epoch(1):
        pass
    print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def sources(folder: Path | None) -> Iterator[Image.Image]:
    """Yield small images without end."""
    generator = np.random.default_rng(0)
    while True:
        if folder is None:
            yield Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            continue
        for path in sorted(folder.rglob("*.*")):
            with Image.open(path) as image:
                yield image.convert("RGB")


def write_photographs(root: Path, count: int, small: Iterator[Image.Image]) -> float:
    """Write the folder; return the mean size of a file in kB."""
    generator, total = np.random.default_rng(1), 0
    for number in range(count + HELD_OUT):
        split, label = ("train" if number < count else "test"), number % CLASSES
        place = root / split / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        large = np.asarray(next(small).resize((500, 375), Image.Resampling.BICUBIC))
        grain = generator.normal(0, 8, (375, 500, 1))
        pixels = (large + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.jpg", quality=90)
        total += (place / f"{number}.jpg").stat().st_size
    return total / (count + HELD_OUT) / 1000


def link_folder(root: Path, files: Sequence[Path], count: int) -> None:
    """Make a folder of so many training images out of links to the files."""
    for number in range(count + HELD_OUT):
        split = "train" if number < count else "test"
        place = root / split / f"class{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        os.link(files[number % len(files)], place / f"{number}.jpg")


def said(code: str, *words: str, **surroundings: str) -> list[float]:
    """Return the numbers that a program prints."""
    command, env = [sys.executable, "-c", code, *words], {**os.environ, **surroundings}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    return [float(number) for number in done.stdout.split()]


def plain(files: Sequence[Path], processes: int) -> float:
    """Return the seconds of the slowest of so many plain loops."""
    started = [
        subprocess.Popen([sys.executable, "-c", PLAIN], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]  # fmt: skip
    for number, one in enumerate(started):
        assert one.stdin is not None
        one.stdin.write("\n".join(map(str, files[number::processes])))
        one.stdin.close()
    seconds = []
    for one in started:
        assert one.stdout is not None
        seconds.append(float(one.stdout.read()))
        one.wait()
        one.stdout.close()
    return max(seconds)


def row(name: str, unit: str, values: Sequence[float]) -> None:
    """Print median, minimum and maximum."""
    middle = statistics.median(values)
    print(f"{name:44} {middle:8.2f} {unit:8} {min(values):.2f} to {max(values):.2f}")


def measure(root: Path, files: Sequence[Path], processes: int, rounds: int) -> None:
    """Measure both in turns and print their speeds and their ratio."""
    seconds: dict[str, list[float]] = {"plain": [], "stream": []}
    for _ in range(rounds):
        seconds["plain"].append(plain(files, processes))
        seconds["stream"].append(said(STREAM, str(root), str(processes))[0])
    for name, times in seconds.items():
        row(f"{name}, {processes} processes", "images/s", [len(files) / each for each in times])
    ratios = [a / b for a, b in zip(seconds["plain"], seconds["stream"], strict=True)]
    row("stream's speed / plain speed", "×", ratios)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of small images")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", default="1,2")
    options = parser.parse_args()
    facts = environment()
    print(f"{facts['processor']}, {os.cpu_count()} cores, torch {facts['versions']['torch']}")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "images"
        size = write_photographs(root, options.count, sources(options.images))
        print(f"{options.count} JPEGs of 500×375, {size:.0f} kB each; {options.rounds} rounds")
        files = sorted((root / "train").rglob("*.jpg"))
        for processes in map(int, options.processes.split(",")):
            measure(root, files, processes, options.rounds)
        for count in (options.count // 8, options.count, 8 * options.count):
            folder = Path(name) / f"{count}"
            link_folder(folder, files, count)
            peak = said(STREAM, str(folder), "1", MALLOC_MMAP_THRESHOLD_="65536")[1]
            print(f"peak memory of an epoch over {count:,} images: {peak / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
