"""Runs jobs in several processes of this machine; this one records what they tell."""

import multiprocessing as mp
import os
import signal
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from rkkd_cli.errors import RunError
from rkkd_cli.sweep.begun import Begun
from rkkd_cli.sweep.jobs import Job, teacher_of
from rkkd_cli.sweep.ledger import Ledger
from rkkd_cli.sweep.local import Engine, told
from rkkd_cli.sweep.sources import Sources, open_sources
from rkkd_cli.sweep.wire import unpack
from rkkd_cli.sweep.work import Settings, attempt
from rkkd_cli.train.events import Event
from rkkd_cli.train.pace import Pace, Stopped

SECONDS_BETWEEN_LOOKS = 0.2
EVENT, DONE, STOPPED, FAILED = "event", "done", "stopped", "failed"


def on_workers(count: int, keep_going: bool) -> Engine:
    """Return the engine that runs jobs in so many processes."""

    def engine(
        begun: Begun, device: torch.device, cache: Path, pace: Pace, jobs: Sequence[Job]
    ) -> Iterator[Event]:
        fingerprints = {}
        for key, sharing in groupby(jobs, key=lambda job: teacher_of(job.experiment)):
            experiment = next(sharing).experiment
            sources = yield from open_sources(experiment, device, cache, pace, begun)
            fingerprints[repr(key)] = sources.fingerprints
            del sources  # the workers read what they need themselves
        with pace.deferring():
            pool = Pool(begun, min(count, len(jobs)), device, cache, pace, keep_going)
            try:
                yield from pool.run(jobs, fingerprints)
            finally:
                pool.end()
        pace.leave_if_asked()

    return engine


@dataclass
class Worker:
    """A process and the job that it has."""

    number: int
    process: Any
    connection: Connection
    job: Job | None = None


class Pool:
    """Some worker processes, each with one job at a time."""

    def __init__(
        self, begun: Begun, count: int, device: torch.device, cache: Path, pace: Pace,
        keep_going: bool,
    ) -> None:  # fmt: skip
        self.pace, self.device = pace, device
        self.ledger = Ledger(begun, keep_going)
        deterministic = begun.experiment.deterministic
        kind = device.type if device.index is None else str(device)
        self.settings = Settings(kind, torch.get_num_threads(), deterministic, pace.minutes)
        self.places = (str(cache), None if begun.teachers is None else str(begun.teachers))
        self.context = mp.get_context("spawn")
        self.workers = [self._start(number) for number in range(count)]
        self.is_stopping = False

    def _start(self, number: int) -> Worker:
        here, there = self.context.Pipe()
        gpu = None
        if self.device.type == "cuda" and self.device.index is None:
            gpu = visible_gpus()[number % torch.cuda.device_count()]
        arguments = (there, self.settings, *self.places, gpu)
        process = self.context.Process(target=serve, args=arguments, daemon=True)
        process.start()
        there.close()
        return Worker(number, process, here)

    def run(
        self, jobs: Sequence[Job], fingerprints: Mapping[str, dict[str, str]]
    ) -> Iterator[Event]:
        """Yield what happens until all jobs are done, or have left off as they were asked to."""
        left = deque(jobs)
        while left or any(worker.job for worker in self.workers):
            if self.pace.stop_requested:
                left.clear()
                self._ask_to_stop()
            for worker in self.workers:
                if worker.job is None and left:
                    self._give(worker, left.popleft(), fingerprints)
            by_connection = {worker.connection: worker for worker in self.workers if worker.job}
            for connection in wait(list(by_connection), SECONDS_BETWEEN_LOOKS):
                yield from self._receive(by_connection[connection], left)  # type: ignore[index]

    def _give(self, worker: Worker, job: Job, fingerprints: Mapping[str, dict[str, str]]) -> None:
        expected = fingerprints[repr(teacher_of(job.experiment))]
        worker.job = job
        with suppress(OSError):  # it has died: that is seen when it is read
            worker.connection.send((job, self.ledger.state(job), expected))

    def _ask_to_stop(self) -> None:
        if self.is_stopping:
            return
        self.is_stopping = True
        for worker in self.workers:
            if worker.job:
                with suppress(OSError):
                    worker.connection.send(None)

    def _receive(self, worker: Worker, left: "deque[Job]") -> Iterator[Event]:
        job = worker.job
        assert job is not None
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._replace(worker, left)
            return
        if kind == EVENT:
            yield from self.ledger.take(job, unpack(content))
            return
        worker.job = None
        if kind == FAILED:
            yield self.ledger.failed(job, content)

    def _replace(self, worker: Worker, left: "deque[Job]") -> Iterator[Event]:
        job = worker.job
        assert job is not None
        worker.process.join()
        worker.connection.close()
        what = f"worker {worker.number} ended with exit status {worker.process.exitcode}"
        self.workers[worker.number] = self._start(worker.number)
        yield from self.ledger.died(job, what)
        if self.ledger.may_retry(job) and not self.is_stopping:
            left.appendleft(job)

    def end(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join()
            worker.connection.close()


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    if stated:
        return [one.strip() for one in stated.split(",")]
    return [str(number) for number in range(torch.cuda.device_count())]


def serve(
    connection: Connection, settings: Settings, cache: str, kept: str | None, gpu: str | None
) -> None:
    """Be a worker: train the jobs that come in, until the other end goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the other end decides
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    device = settings.apply()
    sources: dict[str, Sources] = {}
    with suppress(EOFError, OSError):
        while True:
            request = connection.recv()
            if request is None:
                continue  # asked to stop when it was done already
            job, state, expected = request
            connection.send(_train(connection, settings, device, (cache, kept), sources, job,
                                   state, expected))  # fmt: skip


def _train(
    connection: Connection, settings: Settings, device: torch.device,
    places: tuple[str, str | None], cached: dict[str, Sources], job: Job, state: bytes | None,
    expected: dict[str, str],
) -> tuple[str, Any]:  # fmt: skip
    """Train one job and tell its events; return how it ended."""
    pace = Pace(settings.minutes)
    try:
        key = repr(teacher_of(job.experiment))
        if key not in cached:
            cached.clear()
            cached[key] = _read_sources(job, device, places, pace, expected)
        for content in attempt(job, cached[key], state, pace):
            connection.send((EVENT, content))
            if connection.poll() and connection.recv() is None:
                pace.stop_requested = True
    except Stopped:
        return STOPPED, None
    except (RuntimeError, MemoryError, ValueError) as error:
        return FAILED, told(error)
    return DONE, None


def _read_sources(
    job: Job, device: torch.device, places: tuple[str, str | None], pace: Pace,
    expected: dict[str, str],
) -> Sources:  # fmt: skip
    """Read what the recording process has read, and found or made in the cache, before."""
    cache, kept = places
    begun = Begun(job.experiment, teachers=None if kept is None else Path(kept))
    events = open_sources(job.experiment, device, Path(cache), pace, begun)
    while True:
        try:
            next(events)
        except StopIteration as end:
            sources: Sources = end.value
            break
    if sources.fingerprints != expected:
        raise RunError("this worker reads other images or another teacher; the files have changed")
    return sources
