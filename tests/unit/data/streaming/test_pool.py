"""Decoding processes: the same pixels from any number of them, and what happens when one dies."""

import gc
import os
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
from processes import children_of
from torch import Tensor

from rkkd_cli.data.streaming.crops import Crop
from rkkd_cli.data.streaming.pool import (
    PREFETCHED_BATCHES,
    DecoderPool,
    ImageError,
    default_processes,
)
from rkkd_cli.data.streaming.worker import DecodeTask

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
    all_tasks = [DecodeTask(path, crop, 2**62 + number) for number, path in enumerate(files)]
    return [all_tasks[start : start + batch_size] for start in range(0, len(all_tasks), batch_size)]


def room(count: int, size: int) -> Tensor:
    return torch.empty((count, size, size, 3), dtype=torch.uint8)


def decoded(decoders: DecoderPool, files: list[str]) -> Tensor:
    return torch.cat(list(decoders.decode_batches(tasks(files), room)))


def children() -> set[int]:
    return {one.pid for one in children_of(os.getpid(), "rkkd_cli.data.streaming.worker")}


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_pixels_are_the_cut_ones_of_the_files(files: list[str]) -> None:
    pixels = decoded(DecoderPool(1), files)
    for number, path in enumerate(files):
        with Image.open(path) as image:
            expected = Crop(SIZE, "random", flip=True)(image.convert("RGB"), 2**62 + number)
        assert np.array_equal(pixels[number].numpy(), np.asarray(expected))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_any_number_of_processes_gives_the_same_batches(files: list[str], processes: int) -> None:
    expected = list(DecoderPool(0).decode_batches(tasks(files), room))
    found = list(DecoderPool(processes).decode_batches(tasks(files), room))
    assert [len(batch) for batch in found] == [7, 7, 7, 7, 7, 5]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_the_processes_are_used_again_and_end_with_their_owner(files: list[str]) -> None:
    before, decoders = children(), DecoderPool(2)
    first = decoded(decoders, files)
    started = children() - before
    assert len(started) == 2
    assert torch.equal(decoded(decoders, files), first)
    assert children() - before == started
    del decoders
    gc.collect()
    wait_until(lambda: not children() & started)


def test_two_readers_at_once_and_one_that_leaves_do_not_disturb_each_other(
    files: list[str],
) -> None:
    decoders, expected = DecoderPool(2), decoded(DecoderPool(0), files)
    left = decoders.decode_batches(tasks(files), room)
    next(left)
    pairs = zip(
        decoders.decode_batches(tasks(files), room),
        decoders.decode_batches(tasks(files), room),
        strict=True,
    )
    assert all(torch.equal(one, other) for one, other in pairs)
    del left
    assert torch.equal(decoded(decoders, files), expected)


def test_no_more_is_decoded_ahead_than_is_said(files: list[str]) -> None:
    asked = 0

    def counted() -> Iterator[list[DecodeTask]]:
        nonlocal asked
        for batch in tasks(files, batch_size=2):
            asked += 1
            yield batch

    batches = DecoderPool(2).decode_batches(counted(), room)
    for number in range(1, 10):
        next(batches)
        assert asked <= number + PREFETCHED_BATCHES


@pytest.mark.parametrize("processes", [0, 1, 3])
@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_a_broken_image_is_named_in_its_turn(
    files: list[str], content: bytes | None, processes: int, tmp_path: Path
) -> None:
    broken = tmp_path / "broken\udcff\n.png"
    if content is not None:
        broken.write_bytes(content)
    decoders, listed = DecoderPool(processes), [*files[:16], str(broken), *files[16:]]
    batches = decoders.decode_batches(tasks(listed), room)
    expected = decoded(DecoderPool(0), files[:14])
    assert torch.equal(torch.cat([next(batches), next(batches)]), expected)
    with pytest.raises(ImageError) as caught:
        next(batches)
    assert str(caught.value).startswith(f"cannot decode the image {broken}: ")
    assert torch.equal(decoded(decoders, files)[:14], expected)


def test_what_was_asked_for_beside_a_broken_image_is_dropped_without_a_word(
    files: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Eight images of 600 KB do not fit into a pipe: the process is writing when it is ended."""
    (tmp_path / "broken.png").write_bytes(b"no image")
    listed = [str(tmp_path / "broken.png"), *files[:7]]
    decoders = DecoderPool(1)
    with pytest.raises(ImageError):
        next(
            decoders.decode_batches(
                [[DecodeTask(path, Crop(450, "centre"), 0) for path in listed]], room
            )
        )
    del decoders
    gc.collect()
    wait_until(lambda: not children())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("processes", [0, 2])
def test_an_image_of_too_many_pixels_is_refused(processes: int, tmp_path: Path) -> None:
    giant = tmp_path / "giant.ppm"
    giant.write_bytes(b"P6 20000 20000 255\n" + bytes(100))
    with pytest.raises(ImageError, match=r"giant\.ppm has too many pixels"):
        decoded(DecoderPool(processes), [str(giant)])


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_process_that_dies_is_told_and_replaced(files: list[str]) -> None:
    before, decoders = children(), DecoderPool(1)
    expected = decoded(decoders, files)
    (pid,) = children() - before
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ImageError, match=r"ended with exit status -9, at .*\.png or an image"):
        decoded(decoders, files)
    assert torch.equal(decoded(decoders, files), expected)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_signals_for_the_program_do_not_reach_the_processes(files: list[str]) -> None:
    before, decoders = children(), DecoderPool(1)
    expected = decoded(decoders, files)
    (pid,) = children() - before
    assert os.getsid(pid) == pid  # what a terminal sends goes to another session
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert torch.equal(decoded(decoders, files), expected)
    assert children() - before == {pid}


ENDLESS = """
import sys, torch
from rkkd_cli.data.streaming.crops import Crop
from rkkd_cli.data.streaming.worker import DecodeTask
from rkkd_cli.data.streaming.pool import DecoderPool
def endless():
    while True:
        yield [DecodeTask(path, Crop(64, "random"), 0) for path in sys.argv[1:]]
room = lambda count, size: torch.empty((count, size, size, 3), dtype=torch.uint8)
for number, _ in enumerate(DecoderPool(2).decode_batches(endless(), room)):
    if number == 3:
        print("decoding", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_no_process_outlives_a_killed_program(files: list[str]) -> None:
    command = [sys.executable, "-c", ENDLESS, *files]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline() == b"decoding\n"
        left = psutil.Process(program.pid).children(recursive=True)
        assert len(left) == 2
        program.kill()
        gone, alive = psutil.wait_procs(left, timeout=20)
        assert not alive
        assert len(gone) == 2
        assert program.stderr.read() == b""


def test_some_processes_are_usual_and_a_copy_has_its_own() -> None:
    assert 1 <= default_processes() <= 8
    assert DecoderPool().processes == default_processes()
    assert DecoderPool(0).processes == 0
