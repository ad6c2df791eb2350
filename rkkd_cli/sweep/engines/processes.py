"""Runs jobs in several processes of this machine; this one records what they tell."""

import itertools
import multiprocessing as mp
import os
import signal
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from rkkd_cli.sweep.engines.ledger import Ledger
from rkkd_cli.sweep.engines.local import Engine, run_job
from rkkd_cli.sweep.engines.pool import Pool, WorkerDied
from rkkd_cli.sweep.engines.worker import (
    Message,
    WorkerOptions,
    check_sources,
    messages,
    silently,
    unpack_state,
)
from rkkd_cli.sweep.jobs import Job, teacher_of
from rkkd_cli.sweep.recording.run_state import Begun
from rkkd_cli.sweep.sources import Sources, open_sources
from rkkd_cli.train.events import Event
from rkkd_cli.train.stop_controller import StopController

Places = tuple[Path, Path | None]  # the cache, and the folder of the teachers that the run keeps


def on_processes(count: int, keep_going: bool) -> Engine:
    """Return the engine that runs jobs in so many processes."""

    def engine(
        begun: Begun,
        device: torch.device,
        cache: Path,
        controller: StopController,
        jobs: Sequence[Job],
    ) -> Iterator[Event]:
        fingerprints = {}
        for key, sharing in groupby(jobs, key=lambda job: teacher_of(job.experiment)):
            experiment = next(sharing).experiment
            sources = yield from open_sources(experiment, device, cache, controller, begun)
            fingerprints[repr(key)] = sources.fingerprints
            del sources  # the workers read what they need themselves
        kind = device.type if device.index is None else str(device)
        deterministic = begun.experiment.deterministic
        settings = WorkerOptions(kind, torch.get_num_threads(), deterministic, controller.minutes)
        crew = ProcessCrew(count, settings, (cache, begun.teachers), fingerprints)
        with controller.graceful():
            pool = Pool(crew, Ledger(begun, keep_going), controller)
            try:
                yield from pool.run(jobs)
            finally:
                pool.end()
        controller.raise_if_stopped()

    return engine


class ProcessCrew:
    """Processes of this machine, each with a GPU of its own where there are some."""

    def __init__(
        self,
        count: int,
        settings: WorkerOptions,
        places: Places,
        fingerprints: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.count, self.settings, self.places = count, settings, places
        self.fingerprints = fingerprints
        self.processes: list[Process] = []

    def room(self) -> int:
        """Return how many processes there may be."""
        return self.count

    def start(self) -> "Process":
        """Return a new process."""
        living = {one.number for one in self.processes if one.process.is_alive()}
        number = next(number for number in itertools.count() if number not in living)
        gpu = None
        if self.settings.device == "cuda":
            gpu = visible_gpus()[number % torch.cuda.device_count()]
        self.processes.append(Process(number, self.settings, self.places, gpu, self.fingerprints))
        return self.processes[-1]

    def wait(self, workers: Sequence["Process"], seconds: float) -> list["Process"]:
        """Return those of the processes that have told something or ended."""
        by_connection = {worker.connection: worker for worker in workers}
        return [by_connection[one] for one in wait(list(by_connection), seconds)]  # type: ignore[index]


class Process:
    """A process that trains one job at a time."""

    def __init__(
        self,
        number: int,
        settings: WorkerOptions,
        places: Places,
        gpu: str | None,
        fingerprints: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.number, self.fingerprints = number, fingerprints
        context = mp.get_context("spawn")
        self.connection, there = context.Pipe()
        self.process = context.Process(
            target=serve, args=(there, settings, places, gpu), daemon=True
        )
        self.process.start()
        there.close()

    def give(self, job: Job, state: bytes | None) -> None:
        """Send the job."""
        expected = self.fingerprints[repr(teacher_of(job.experiment))]
        with suppress(OSError):  # it has died: that is seen when it is read
            self.connection.send((job, state, expected))

    def ask_to_stop(self) -> None:
        """Send nothing instead of a job."""
        with suppress(OSError):
            self.connection.send(None)

    def receive(self) -> Message:
        """Return the next message. Raises WorkerDied."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            raise WorkerDied(f"worker {self.number} ended with exit status {code}") from None
        return message

    def end(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.join()
        self.connection.close()


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    if stated:
        return [one.strip() for one in stated.split(",")]
    return [str(number) for number in range(torch.cuda.device_count())]


def serve(connection: Connection, settings: WorkerOptions, places: Places, gpu: str | None) -> None:
    """Be a worker: train the jobs that come in, until the other end goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the other end decides
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    reader = Reader(settings.apply(), places)
    with suppress(EOFError, OSError):
        while True:
            request = connection.recv()
            if request is None:
                continue  # asked to stop when it was done already
            job, state, expected = request
            controller = StopController(settings.minutes)
            for message in messages(reader.train(job, state, expected, controller)):
                connection.send(message)
                if connection.poll() and connection.recv() is None:
                    controller.stop_requested = True


class Reader:
    """Reads what the recording process has read, and found or made in the cache, before."""

    def __init__(self, device: torch.device, places: Places) -> None:
        self.device, self.places = device, places
        self.sources: dict[str, Sources] = {}

    def train(
        self, job: Job, state: bytes | None, expected: Mapping[str, str], controller: StopController
    ) -> Generator[Event, None, None]:
        """Train one job from its state."""
        key = repr(teacher_of(job.experiment))
        if key not in self.sources:
            self.sources.clear()
            cache, kept = self.places
            begun = Begun(job.experiment, teachers=kept)
            events = open_sources(job.experiment, self.device, cache, controller, begun)
            sources = silently(events)
            check_sources(sources.fingerprints, expected)
            self.sources[key] = sources
        state_here = None if state is None else unpack_state(state)
        yield from run_job(job, self.sources[key], state_here, controller)
