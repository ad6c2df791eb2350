"""Runs jobs in several processes of this machine; this one records their events."""

import itertools
import multiprocessing as mp
import os
import signal
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from rkkd_cli.plugins import without_script
from rkkd_cli.sweep.engines.commit_buffer import CommitBuffer
from rkkd_cli.sweep.engines.local import run_job
from rkkd_cli.sweep.engines.pool import Pool, WorkerDied
from rkkd_cli.sweep.engines.worker import (
    Message,
    WorkerOptions,
    check_sources,
    deserialize_state,
    drain,
    messages,
)
from rkkd_cli.sweep.estimate import free_memory
from rkkd_cli.sweep.jobs import Job, SourcesKey, sources_key
from rkkd_cli.sweep.recording.run_state import Origin, Work
from rkkd_cli.sweep.sources import Sources, open_sources
from rkkd_cli.train.device import pick_device
from rkkd_cli.train.events import Event
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController

Fingerprints = Mapping[SourcesKey, Mapping[str, str]]  # of images and teacher


@dataclass(frozen=True)
class Folders:
    """The cache, and the folder with the teachers of a run that has begun."""

    cache: Path
    teachers: Path | None


class ProcessesEngine:
    """Several processes of this machine, each with a GPU of its own if there are GPUs.

    With ``keep_going`` a job that fails is given up, and the others continue.
    """

    def __init__(self, count: int, keep_going: bool) -> None:
        self.jobs_at_once, self.keep_going = count, keep_going
        self.threads = max(1, (os.cpu_count() or 1) // count)

    def device(self, name: str) -> torch.device:
        """Return the device of an experiment's ``device`` setting. Raises UserError."""
        return pick_device(name)

    def free_memory(self, device: torch.device) -> int:
        """Return each process's share of the free bytes of the device."""
        return free_memory(device) // self.jobs_at_once

    def run(self, work: Work, runtime: Runtime) -> Iterator[Event]:
        """Yield all events until the work is done."""
        device, controller = runtime.device, runtime.controller
        fingerprints = {}
        for key, jobs in work.by_sources():
            sources = yield from open_sources(jobs[0].experiment, runtime, work.origin)
            fingerprints[key] = sources.fingerprints
            del sources  # the workers read them themselves
        device_name = device.type if device.index is None else str(device)
        experiments = [arm.experiment for job in work.jobs for arm in job.arms]
        options = WorkerOptions.like_this_process(device_name, experiments, runtime)
        folders = Folders(runtime.cache, work.origin.teachers)
        factory = ProcessFactory(self.jobs_at_once, options, folders, fingerprints)
        with controller.graceful():
            pool = Pool(factory, CommitBuffer(work.states, self.keep_going), controller)
            try:
                yield from pool.run(work.jobs)
            finally:
                pool.end()
        controller.raise_if_stopped()


class ProcessFactory:
    """Starts worker processes, and waits for their messages."""

    def __init__(
        self, count: int, options: WorkerOptions, folders: Folders, fingerprints: Fingerprints
    ) -> None:
        self.count, self.options, self.folders = count, options, folders
        self.fingerprints = fingerprints
        self.workers: list[WorkerProcess] = []

    def capacity(self) -> int:
        """Return how many processes there may be."""
        return self.count

    def start(self) -> "WorkerProcess":
        """Return a new process."""
        alive = {worker.index for worker in self.workers if worker.process.is_alive()}
        index = next(index for index in itertools.count() if index not in alive)
        gpu = None
        if self.options.device == "cuda":
            gpu = visible_gpus()[index % torch.cuda.device_count()]
        worker = WorkerProcess(index, self.options, self.folders, gpu, self.fingerprints)
        self.workers.append(worker)
        return worker

    def wait(self, workers: Sequence["WorkerProcess"], seconds: float) -> list["WorkerProcess"]:
        """Return the processes that have sent a message or ended."""
        by_connection = {worker.connection: worker for worker in workers}
        ready = wait(list(by_connection), seconds)
        return [by_connection[connection] for connection in ready]  # type: ignore[index]


class WorkerProcess:
    """A process that trains one job at a time."""

    def __init__(
        self,
        index: int,
        options: WorkerOptions,
        folders: Folders,
        gpu: str | None,
        fingerprints: Fingerprints,
    ) -> None:
        self.index, self.fingerprints = index, fingerprints
        context = mp.get_context("spawn")
        self.connection, worker_connection = context.Pipe()
        self.process = context.Process(
            target=serve, args=(worker_connection, options, folders, gpu)
        )
        with without_script():
            self.process.start()
        worker_connection.close()

    def submit(self, job: Job, state: bytes | None) -> None:
        """Send the job."""
        expected = self.fingerprints[sources_key(job.experiment)]
        with suppress(OSError):  # it has died, and receive() will raise
            self.connection.send((job, state, expected))

    def request_stop(self) -> None:
        """Send None instead of a job."""
        with suppress(OSError):
            self.connection.send(None)

    def receive(self) -> Message:
        """Return the next message. Raises WorkerDied."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            raise WorkerDied(f"worker {self.index} ended with exit status {code}") from None
        return message

    def end(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.join()
        self.connection.close()


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        return [name.strip() for name in visible.split(",")]
    return [str(index) for index in range(torch.cuda.device_count())]


def serve(
    connection: Connection, options: WorkerOptions, folders: Folders, gpu: str | None
) -> None:
    """Train the jobs that arrive, until the connection is closed. Runs in the worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the recording one decides
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    trainer = JobTrainer(options.apply(), folders)
    with suppress(EOFError, OSError):
        while True:
            request = connection.recv()
            if request is None:
                continue  # the job was done before the request to stop arrived
            job, state, expected = request
            controller = StopController(options.minutes)
            for message in messages(trainer.train(job, state, expected, controller)):
                connection.send(message)
                if connection.poll() and connection.recv() is None:
                    controller.stop_requested = True


class JobTrainer:
    """Trains jobs on images and a teacher that the recording process has cached."""

    def __init__(self, device: torch.device, folders: Folders) -> None:
        self.device, self.folders = device, folders
        self.sources: dict[SourcesKey, Sources] = {}

    def train(
        self, job: Job, state: bytes | None, expected: Mapping[str, str], controller: StopController
    ) -> Generator[Event, None, None]:
        """Train one job from its serialised state."""
        key = sources_key(job.experiment)
        runtime = Runtime(self.device, self.folders.cache, controller)
        if key not in self.sources:
            self.sources.clear()
            origin = Origin(teachers=self.folders.teachers)
            sources = drain(open_sources(job.experiment, runtime, origin))
            check_sources(sources.fingerprints, expected)
            self.sources[key] = sources
        yield from run_job(
            job, self.sources[key], None if state is None else deserialize_state(state), runtime
        )
