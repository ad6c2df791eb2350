"""Image files, decoded by the workers of torch's DataLoader a few batches ahead of training.

A task says everything (file, crop, seeds), so no pixel depends on the number of workers or on which
one decodes it. Memory does not grow with the dataset: tasks are made batch by batch.
"""

import multiprocessing as mp
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from rkkd_cli.data.streaming.crops import Crop
from rkkd_cli.data.streaming.decode import read_image, reject_decompression_bombs
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.plugins import without_script

MAX_DEFAULT_WORKERS = 8
PREFETCH_FACTOR = 2  # batches that a worker decodes ahead

# Workers are forked from a server that has no threads and has imported what they need.
START_METHOD = "forkserver" if "forkserver" in mp.get_all_start_methods() else "spawn"
PRELOADED = [__name__]


class ImageError(RunError):
    """An image of a stream cannot be decoded. All batches before it have been yielded."""


class DecodeTask(NamedTuple):
    """An image to decode once, and to crop once for each seed: one view of it per seed."""

    path: str
    crop: Crop
    seeds: tuple[int, ...] = (0,)


Tasks = Sequence[DecodeTask]
Decode = Callable[[Any], Tensor]


def decode(tasks: Tasks) -> Tensor:
    """Return the views of a batch, (B, views, size, size, 3) uint8.

    Raises UserError naming an image that cannot be decoded.
    """
    size, views = tasks[0].crop.size, len(tasks[0].seeds)
    pixels = torch.empty((len(tasks), views, size, size, 3), dtype=torch.uint8)
    with reject_decompression_bombs():
        for task, image_pixels in zip(tasks, pixels.numpy(), strict=True):
            crops = [partial(task.crop.cut, seed=seed) for seed in task.seeds]
            np.stack(read_image(Path(task.path), crops), out=image_pixels)
    return pixels


class _Batches(Dataset[Tensor | str]):
    """The batches of all tasks there are: an index is a batch's tasks.

    What cannot be decoded is a sentence, since DataLoader wraps exceptions in tracebacks.
    """

    def __init__(self, decode: Decode) -> None:
        self.decode = decode

    def __getitem__(self, tasks: Any) -> Tensor | str:
        try:
            return self.decode(tasks)
        except UserError as error:
            return str(error)


class _NextTasks(Sampler[Any]):
    """The tasks of the next batches, which :class:`ImageLoader` sets."""

    def __init__(self) -> None:
        self.batches: Iterator[Any] = iter(())

    def __iter__(self) -> Iterator[Any]:
        return self.batches


def default_workers() -> int:
    """Return the default number of workers: one per core but one, at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(MAX_DEFAULT_WORKERS, max(1, (cores or 1) - 1))


class ImageLoader:
    """Workers that decode images. They start when first needed and stay for further epochs.

    ``decode`` makes a tensor of a batch's tasks. With 0 workers, this process decodes. There is one
    reader at a time.
    """

    def __init__(self, workers: int | None = None, decode: Decode = decode) -> None:
        self.requested, self.decode = workers, decode
        self.tasks = _NextTasks()
        self.loader: DataLoader[Tensor | str] | None = None
        self.reader: object = None

    def __reduce__(self) -> tuple[type["ImageLoader"], tuple[int | None, Decode]]:
        """A copy starts workers of its own."""
        return ImageLoader, (self.requested, self.decode)

    @property
    def workers(self) -> int:
        """The number of workers: as requested, or this machine's default."""
        return default_workers() if self.requested is None else self.requested

    def read(self, batches: Iterable[Any], count: int, pin_memory: bool) -> Iterator[Tensor]:
        """Yield what ``decode`` makes of each of ``count`` batches.

        By default, of sequences of tasks, these are views (B, views, size, size, 3) uint8.

        With ``pin_memory``, in page-locked memory, from which a GPU reads faster.

        Raises ImageError for an image that cannot be decoded, after the batches before it.
        """
        reader = self.reader = object()
        self.tasks.batches = iter(batches)
        decoded = self._decoded(pin_memory)
        for _ in range(count):
            assert self.reader is reader, "another reader has taken over"
            try:
                pixels = next(decoded)
            except RuntimeError as error:  # a worker has died
                pixels = f"a process that decodes images is gone: {error}"
            if isinstance(pixels, str):
                self.end_workers()
                self.loader = None
                raise ImageError(pixels)
            yield pixels

    def _decoded(self, pin_memory: bool) -> Iterator[Tensor | str]:
        with warnings.catch_warnings(), without_script():
            warnings.simplefilter("ignore")  # of more workers than cores, which somebody asked for
            if self.loader is None:
                self.loader = _make_loader(self.tasks, self.workers, pin_memory, self.decode)
                others = mp.active_children()
                decoded = iter(self.loader)
                started = [child for child in mp.active_children() if child not in others]
                self.end_workers = weakref.finalize(self, _terminate, started)
            else:
                decoded = iter(self.loader)
        yield from decoded


def _terminate(workers: Sequence[BaseProcess]) -> None:
    """End workers. Garbage collection would take DataLoader's queues first, and then wait 5 s."""
    for worker in workers:
        worker.terminate()


def _make_loader(
    tasks: _NextTasks, workers: int, pin_memory: bool, decode: Decode
) -> DataLoader[Tensor | str]:
    new_loader = partial(
        DataLoader, _Batches(decode), batch_size=None, sampler=tasks, pin_memory=pin_memory,
        generator=torch.Generator(),  # else the global one would be moved
    )  # fmt: skip
    if workers == 0:
        return new_loader()
    context = mp.get_context(START_METHOD)
    context.set_forkserver_preload(PRELOADED)
    return new_loader(
        num_workers=workers, prefetch_factor=PREFETCH_FACTOR, persistent_workers=True,
        worker_init_fn=_start_worker, multiprocessing_context=context,
    )  # fmt: skip


def _start_worker(worker: int) -> None:
    """Leave what a terminal sends to the program, and end with it."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_program, daemon=True).start()


def _end_with_program() -> None:
    """Exit once the program has ended, of which a worker of a fork server is no child."""
    program = mp.parent_process()
    assert program is not None
    program.join()
    signal.raise_signal(signal.SIGTERM)
