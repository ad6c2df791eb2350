"""A pool of processes that decode images a few batches ahead of training.

Each process has a thread here. The thread hands it a chunk of a batch's tasks and reads the pixels
into the batch. A task says everything (file, crop, seed), so no pixel depends on the number of
processes or on which one decodes it. Memory does not grow with the dataset: ``PREFETCHED_BATCHES``
are decoded ahead.
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
from rkkd_cli.data.streaming.decode import reject_decompression_bombs
from rkkd_cli.data.streaming.worker import DECODED, DecodeTask, decode, json_line
from rkkd_cli.errors import RunError, UserError

if TYPE_CHECKING:
    from torch import Tensor

MAX_DEFAULT_PROCESSES = 8
PREFETCHED_BATCHES = 2  # decoded while one is in use
IMAGES_PER_CHUNK = 8
PIPE_BYTES, F_SETPIPE_SZ = 1 << 20, 1031  # of Linux's fcntl.h

Tasks = Sequence[DecodeTask]
Allocate = Callable[[int, int], "Tensor"]  # (number of images, pixels a side) → empty batch


class ImageError(RunError):
    """An image of a stream cannot be decoded. All batches before it have been yielded."""


class Chunk(NamedTuple):
    """The images of a batch that one process decodes at a time, and their pixels' destination.

    ``pixels``: (n, size, size, 3).
    """

    tasks: Tasks
    pixels: "Tensor"
    done: "Future[None]"


class PendingBatch(NamedTuple):
    """A batch that is being decoded."""

    pixels: "Tensor"
    chunks: list[Chunk]

    def wait(self) -> "Tensor":
        """Return the pixels when all are decoded. Raises ImageError for one that cannot be."""
        for chunk in self.chunks:
            chunk.done.result()
        return self.pixels


def default_processes() -> int:
    """Return the default number of decoding processes: one per core but one, at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(MAX_DEFAULT_PROCESSES, max(1, (cores or 1) - 1))


class DecoderPool:
    """Decoding processes, started when first needed. With 0 processes, this one decodes."""

    def __init__(self, requested: int | None = None) -> None:
        self.requested = requested
        self.queue: SimpleQueue[Chunk | None] | None = None

    def __getstate__(self) -> dict[str, int | None]:
        return {"requested": self.requested, "queue": None}

    @property
    def processes(self) -> int:
        """The number of processes: as requested, or this machine's default."""
        return default_processes() if self.requested is None else self.requested

    def decode_batches(self, batches: Iterable[Tasks], allocate: Allocate) -> "Iterator[Tensor]":
        """Yield the pixels of each batch, (B, size, size, 3) uint8, in memory from ``allocate``.

        Raises ImageError for an image that cannot be decoded, after the batches before it.
        """
        if self.processes == 0:
            yield from (_decode_here(tasks, allocate) for tasks in batches)
            return
        pending: deque[PendingBatch] = deque()
        try:
            for tasks in batches:
                pending.append(self._start(tasks, allocate))
                if len(pending) > PREFETCHED_BATCHES:
                    yield pending.popleft().wait()
            while pending:
                yield pending.popleft().wait()
        finally:
            for batch in pending:
                for chunk in batch.chunks:
                    chunk.done.cancel()

    def _start(self, tasks: Tasks, allocate: Allocate) -> PendingBatch:
        pixels = allocate(len(tasks), tasks[0].crop.size)
        size = max(1, min(IMAGES_PER_CHUNK, len(tasks) // self.processes))
        chunks = [
            Chunk(tasks[start : start + size], pixels[start : start + size], Future())
            for start in range(0, len(tasks), size)
        ]
        if self.queue is None:
            self.queue = _start_threads(self, self.processes)
        for chunk in chunks:
            self.queue.put(chunk)
        return PendingBatch(pixels, chunks)


def _decode_here(tasks: Tasks, allocate: Allocate) -> "Tensor":
    pixels = allocate(len(tasks), tasks[0].crop.size)
    try:
        with reject_decompression_bombs():
            for image, task in zip(pixels.numpy(), tasks, strict=True):
                memoryview(image).cast("B")[:] = decode(task)
    except UserError as error:
        raise ImageError(str(error)) from None
    return pixels


def _start_threads(owner: DecoderPool, count: int) -> "SimpleQueue[Chunk | None]":
    """Start the threads and return their queue. They end when ``owner`` is collected."""
    queue: SimpleQueue[Chunk | None] = SimpleQueue()
    for _ in range(count):
        threading.Thread(target=_serve_queue, args=(queue,), daemon=True).start()
    weakref.finalize(owner, _end_threads, queue, count)
    return queue


def _end_threads(queue: "SimpleQueue[Chunk | None]", count: int) -> None:
    for _ in range(count):
        queue.put(None)


def _serve_queue(queue: "SimpleQueue[Chunk | None]") -> None:
    """Have one process decode chunks from the queue; replace it if it dies."""
    process: DecodeProcess | None = None
    while True:
        chunk = queue.get()
        if chunk is None:
            break
        if chunk.done.set_running_or_notify_cancel():
            try:
                process = process or DecodeProcess()
                process.decode(chunk)
            except Exception as error:
                if process is not None:
                    process.end()
                process = None
                chunk.done.set_exception(error)
            else:
                chunk.done.set_result(None)
        del chunk  # or the batch would stay in memory while the thread waits
    if process is not None:
        process.end()


class DecodeProcess:
    """One decoding process."""

    def __init__(self) -> None:
        # -P: import nothing from the working folder. A new session: no signals from the terminal.
        command = [sys.executable, "-P", "-m", "rkkd_cli.data.streaming.worker"]
        package = str(Path(rkkd_cli.__file__).parents[1])
        paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests: IO[bytes] = self.process.stdin
        self.responses: IO[bytes] = self.process.stdout
        with suppress(ImportError, OSError):  # Linux only: a larger pipe, fewer context switches
            import fcntl

            fcntl.fcntl(self.responses, F_SETPIPE_SZ, PIPE_BYTES)

    def decode(self, chunk: Chunk) -> None:
        """Decode the images into the chunk. Raises ImageError for one that cannot be decoded."""
        with suppress(OSError):  # the process has died, as reading will show
            self.requests.write(json_line(chunk.tasks))
            self.requests.flush()
        for task, pixels in zip(chunk.tasks, chunk.pixels.numpy(), strict=True):
            status = self.responses.read(1)
            if status and status != DECODED:
                raise ImageError(json.loads(self.responses.readline()))
            buffer = memoryview(pixels).cast("B")
            if not status or self.responses.readinto(buffer) < len(buffer):  # type: ignore[attr-defined]
                raise ImageError(
                    f"a process that decodes images ended with exit status {self.process.wait()}, "
                    f"at {task.path} or an image beside it"
                )

    def end(self) -> None:
        """End the process and wait for it."""
        for pipe in (self.requests, self.responses):
            with suppress(OSError):  # what a dead process has not read cannot be flushed
                pipe.close()
        self.process.wait()
