"""DataLoader's workers: the same pixels from any number of them, and what happens when one dies."""

import gc
import multiprocessing as mp
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch import Tensor

from rkkd_cli.data.streaming.crops import Crop
from rkkd_cli.data.streaming.loader import (
    PREFETCH_FACTOR,
    DecodeTask,
    ImageError,
    ImageLoader,
    default_workers,
)

SIZE = 8


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Forty images of different sizes."""
    folder, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = []
    for number in range(40):
        pixels = generator.integers(0, 256, (10 + number, 60 - number, 3), dtype=np.uint8)
        paths.append(str(folder / f"{number}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return paths


def tasks(files: list[str], batch_size: int = 7) -> list[list[DecodeTask]]:
    crop = Crop(SIZE, "random", flip=True)
    all_tasks = [DecodeTask(path, crop, (number, 2**62)) for number, path in enumerate(files)]
    return [all_tasks[start : start + batch_size] for start in range(0, len(all_tasks), batch_size)]


def read(loader: ImageLoader, files: list[str]) -> list[Tensor]:
    batches = tasks(files)
    return list(loader.read(batches, len(batches), pin_memory=False))


def workers() -> set[int]:
    return {child.pid for child in mp.active_children() if child.pid is not None}


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_views_are_crops_of_the_files(files: list[str]) -> None:
    pixels = torch.cat(read(ImageLoader(1), files))
    for number, path in enumerate(files):
        with Image.open(path) as image:
            crops = [Crop(SIZE, "random", flip=True).cut(image, seed) for seed in (number, 2**62)]
        assert np.array_equal(
            pixels[number].numpy(), np.stack([np.asarray(crop) for crop in crops])
        )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_workers_gives_the_same_batches(files: list[str], count: int) -> None:
    expected, batches = read(ImageLoader(0), files), read(ImageLoader(count), files)
    assert [len(batch) for batch in batches] == [7, 7, 7, 7, 7, 5]
    assert all(torch.equal(a, b) for a, b in zip(expected, batches, strict=True))


def test_the_workers_are_used_again_and_end_with_their_owner(files: list[str]) -> None:
    before, loader = workers(), ImageLoader(2)
    first = read(loader, files)
    started = workers() - before
    assert len(started) == 2
    assert all(map(torch.equal, read(loader, files), first))
    assert workers() - before == started
    del loader
    gc.collect()
    wait_until(lambda: not workers() & started)


def test_a_reader_that_leaves_does_not_disturb_the_next(files: list[str]) -> None:
    loader = ImageLoader(2)
    leaving = loader.read(tasks(files), 6, pin_memory=False)
    next(leaving)
    assert all(map(torch.equal, read(loader, files), read(ImageLoader(0), files)))
    with pytest.raises(AssertionError):
        next(leaving)


def test_no_more_is_decoded_ahead_than_is_said(files: list[str]) -> None:
    asked = 0

    def counted() -> Iterator[list[DecodeTask]]:
        nonlocal asked
        for batch in tasks(files, batch_size=2):
            asked += 1
            yield batch

    batches = ImageLoader(2).read(counted(), 20, pin_memory=False)
    for number in range(1, 10):
        next(batches)
        assert asked <= number + 2 * PREFETCH_FACTOR


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_a_broken_image_is_named_in_its_turn(
    files: list[str], content: bytes | None, count: int, tmp_path: Path
) -> None:
    broken = tmp_path / "broken\udcff\n.png"
    if content is not None:
        broken.write_bytes(content)
    loader, batches = ImageLoader(count), tasks([*files[:16], str(broken), *files[16:]])
    reading = loader.read(batches, len(batches), pin_memory=False)
    expected = read(ImageLoader(0), files)
    assert all(torch.equal(next(reading), batch) for batch in expected[:2])
    with pytest.raises(ImageError, match=re.escape(f" the image {broken}: ")):
        next(reading)
    assert all(map(torch.equal, read(loader, files), expected))


@pytest.mark.parametrize("count", [0, 1])
def test_an_image_of_too_many_pixels_is_refused(count: int, tmp_path: Path) -> None:
    giant = tmp_path / "giant.ppm"
    giant.write_bytes(b"P6 20000 20000 255\n" + bytes(100))
    with pytest.raises(ImageError, match=r"giant\.ppm has too many pixels"):
        read(ImageLoader(count), [str(giant)])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_worker_that_dies_is_told_and_replaced(files: list[str]) -> None:
    before, loader = workers(), ImageLoader(1)
    expected = read(loader, files)
    (pid,) = workers() - before
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ImageError, match=r"a process that decodes images is gone: .*exited"):
        read(loader, files)
    assert all(map(torch.equal, read(loader, files), expected))


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_what_a_terminal_sends_does_not_reach_the_workers(files: list[str]) -> None:
    before, loader = workers(), ImageLoader(1)
    expected = read(loader, files)
    (pid,) = workers() - before
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    assert all(map(torch.equal, read(loader, files), expected))
    assert workers() - before == {pid}


ENDLESS = """
import sys, torch
from rkkd_cli.data.streaming.crops import Crop
from rkkd_cli.data.streaming.loader import DecodeTask, ImageLoader
if __name__ == "__main__":
    tasks = [DecodeTask(path, Crop(64, "random")) for path in sys.argv[1:]]
    endless = iter(lambda: tasks, None)
    for number, _ in enumerate(ImageLoader(2).read(endless, 10**9, pin_memory=False)):
        if number == 3:
            print("decoding", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_no_process_outlives_a_killed_program(files: list[str]) -> None:
    command = [sys.executable, "-c", ENDLESS, *files]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"decoding\n"
        left = psutil.Process(program.pid).children(recursive=True)
        assert len(left) >= 2
        program.kill()
        assert not psutil.wait_procs(left, timeout=20)[1]


def test_some_workers_are_usual_and_a_copy_has_its_own() -> None:
    assert 1 <= default_workers() <= 8
    assert ImageLoader().workers == default_workers()
    assert ImageLoader(0).workers == 0
