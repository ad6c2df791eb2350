"""Processes that decode images ahead of whoever needs them.

Each process has a thread here, which hands it a few images at a time and reads their pixels into
the batch. Orders say everything (file, crop, seed), so that no pixel depends on how many processes
there are or which of them decodes an image, and the processes hold nothing. What is decoded ahead
is ``AHEAD`` batches, however many images there are.
"""

import json
import os
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, NamedTuple

import rkkd_cli
from rkkd_cli.data.streaming.decode import refusing_bombs
from rkkd_cli.data.streaming.worker import GOOD, Order, decode, line_of
from rkkd_cli.errors import RunError, UserError

if TYPE_CHECKING:
    from torch import Tensor

MOST_PROCESSES = 8  # unless more are asked for
AHEAD = 2  # batches that are decoded while one is in use
IMAGES_A_SHARE = 8  # handed to a process at once
PIPE_BYTES, F_SETPIPE_SZ = 1 << 20, 1031  # of Linux's fcntl.h

Orders = Sequence[Order]
Allocate = Callable[[int, int], "Tensor"]  # for so many images of so many pixels a side


class ImageError(RunError):
    """An image of a stream cannot be decoded; all batches before it have been."""


class Share(NamedTuple):
    """Some images of a batch and where their pixels go, (n, size, size, 3)."""

    orders: Orders
    pixels: "Tensor"
    done: "Future[None]"


class Started(NamedTuple):
    """A batch that is being decoded."""

    pixels: "Tensor"
    shares: list[Share]


def usual_processes() -> int:
    """Return how many processes decode by default: one for each core but one, at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(MOST_PROCESSES, max(1, (cores or 1) - 1))


class Decoders:
    """So many processes, started when they are first needed; none: this process decodes itself."""

    def __init__(self, wanted: int | None = None) -> None:
        self.wanted = wanted
        self.tasks: SimpleQueue[Share | None] | None = None

    def __getstate__(self) -> dict[str, int | None]:
        return {"wanted": self.wanted, "tasks": None}

    @property
    def processes(self) -> int:
        """How many there are; where no number is wanted, this machine's usual one."""
        return usual_processes() if self.wanted is None else self.wanted

    def batches(self, batches: Iterable[Orders], allocate: Allocate) -> "Iterator[Tensor]":
        """Yield the pixels of each batch, (B, size, size, 3) uint8, in memory from ``allocate``.

        Raises ImageError for an image that cannot be decoded, in its turn.
        """
        if self.processes == 0:
            yield from (_decoded_here(orders, allocate) for orders in batches)
            return
        started: deque[Started] = deque()
        try:
            for orders in batches:
                started.append(self._start(orders, allocate))
                if len(started) > AHEAD:
                    yield _finished(started.popleft())
            while started:
                yield _finished(started.popleft())
        finally:
            for share in (share for one in started for share in one.shares):
                share.done.cancel()

    def _start(self, orders: Orders, allocate: Allocate) -> Started:
        pixels = allocate(len(orders), orders[0].cut.size)
        few = max(1, min(IMAGES_A_SHARE, len(orders) // self.processes))
        shares = [
            Share(orders[start : start + few], pixels[start : start + few], Future())
            for start in range(0, len(orders), few)
        ]
        if self.tasks is None:
            self.tasks = _start_threads(self, self.processes)
        for share in shares:
            self.tasks.put(share)
        return Started(pixels, shares)


def _decoded_here(orders: Orders, allocate: Allocate) -> "Tensor":
    pixels = allocate(len(orders), orders[0].cut.size)
    try:
        with refusing_bombs():
            for image, order in zip(pixels.numpy(), orders, strict=True):
                memoryview(image).cast("B")[:] = decode(order)
    except UserError as error:
        raise ImageError(str(error)) from None
    return pixels


def _finished(batch: Started) -> "Tensor":
    for share in batch.shares:
        share.done.result()
    return batch.pixels


def _start_threads(owner: Decoders, count: int) -> "SimpleQueue[Share | None]":
    """Return the queue of the threads, which end with their owner."""
    tasks: SimpleQueue[Share | None] = SimpleQueue()
    for _ in range(count):
        threading.Thread(target=_serve, args=(tasks,), daemon=True).start()
    weakref.finalize(owner, _end_threads, tasks, count)
    return tasks


def _end_threads(tasks: "SimpleQueue[Share | None]", count: int) -> None:
    for _ in range(count):
        tasks.put(None)


def _serve(tasks: "SimpleQueue[Share | None]") -> None:
    """Let a process of its own do what comes in; one that has died is replaced."""
    process: Process | None = None
    while True:
        share = tasks.get()
        if share is None:
            break
        if share.done.set_running_or_notify_cancel():
            try:
                process = process or Process()
                process.decode(share)
            except Exception as error:
                if process is not None:
                    process.end()
                process = None
                share.done.set_exception(error)
            else:
                share.done.set_result(None)
        del share  # and with it the batch
    if process is not None:
        process.end()


class Process:
    """One decoding process."""

    def __init__(self) -> None:
        # -P: not what lies in the working folder. Its own session: no signals of the terminal.
        command = [sys.executable, "-P", "-m", "rkkd_cli.data.streaming.worker"]
        package = str(Path(rkkd_cli.__file__).parents[1])
        paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        surroundings = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, env=surroundings, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.orders: IO[bytes] = self.process.stdin
        self.answers: IO[bytes] = self.process.stdout
        with suppress(ImportError, OSError):  # Linux alone; fewer switches between the two
            import fcntl

            fcntl.fcntl(self.answers, F_SETPIPE_SZ, PIPE_BYTES)

    def decode(self, share: Share) -> None:
        """Have the images decoded. Raises ImageError for one that cannot be."""
        with suppress(OSError):  # it has died: that is seen when it is read
            self.orders.write(line_of(share.orders))
            self.orders.flush()
        for order, pixels in zip(share.orders, share.pixels.numpy(), strict=True):
            good = self.answers.read(1)
            if good and good != GOOD:
                raise ImageError(json.loads(self.answers.readline()))
            room = memoryview(pixels).cast("B")
            if not good or self.answers.readinto(room) < len(room):  # type: ignore[attr-defined]
                raise self._died(order)

    def _died(self, order: Order) -> ImageError:
        status = self.process.wait()
        return ImageError(
            f"a process that decodes images ended with exit status {status}, at {order.path} or an "
            "image beside it"
        )

    def end(self) -> None:
        """Let the process end, and wait for it."""
        for pipe in (self.orders, self.answers):
            with suppress(OSError):  # orders that a process has died on cannot be flushed
                pipe.close()
        self.process.wait()
