"""The memory bound of a stream: it does not grow with the folder."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Everything that a run does with a stream's images: an epoch, and an evaluation. One line of
# numbers: images seen, and the peak of this process and the memory of its worker, in KiB.
READ = """
import multiprocessing, resource, sys
import psutil, torch
from pathlib import Path
from rkkd_cli.data.catalogue import DatasetRequest
from rkkd_cli.data.reading import load_dataset
from rkkd_cli.data.stream import DeviceImages, Stream
torch.set_num_threads(1)
request = DatasetRequest("folder", sys.argv[1], streaming=True, decoders=1)
dataset, device = load_dataset(request, Path("nowhere")), torch.device("cpu")
seen = sum(len(batch.labels) for batch in Stream(dataset, device, 16, 0).epoch(1))
seen += sum(len(batch.labels) for batch in DeviceImages(dataset.test, dataset, device).in_order(16))
(worker,) = multiprocessing.active_children()
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(seen, own, psutil.Process(worker.pid).memory_info().rss // 1024)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")


def photographs(root: Path, train: int, test: int) -> Path:
    """Write JPEGs of 500×375 pixels, some 60 KB each; all are links to ten different ones."""
    generator, kept = np.random.default_rng(0), []
    for number in range(10):
        coarse = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC))
        grain = generator.normal(0, 8, (375, 500, 1))
        kept.append(root / f"{number}.jpg")
        root.mkdir(exist_ok=True)
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(kept[-1], quality=90)
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            folder = root / split / f"class{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            os.link(kept[number % 10], folder / f"{number}.jpg")
    return root


def peaks(root: Path) -> tuple[int, int, int]:
    """Images, and the MiB of the reader and of its worker."""
    command = [sys.executable, "-c", READ, str(root)]
    at_once = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is given back
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=at_once)
    seen, own, worker = map(int, done.stdout.split())
    return seen, own // 1024, worker // 1024


@pytest.mark.slow
@pytest.mark.parametrize(("few", "many"), [(100, 500), (500, 4000)])
def test_memory_does_not_grow_with_the_folder(few: int, many: int, tmp_path: Path) -> None:
    small = peaks(photographs(tmp_path / "few", few, 20))
    large = peaks(photographs(tmp_path / "many", many, 20))
    assert (small[0], large[0]) == (few + 20, many + 20)
    assert (many - few) * 3 * 224**2 / 2**20 > 50  # MiB that the further images have, decoded
    assert large[1] - small[1] < 8
    assert large[2] - small[2] < 8
