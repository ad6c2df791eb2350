"""Hands jobs out to workers, wherever they run, and receives their messages."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from rkkd_cli.sweep.engines.commit_buffer import CommitBuffer
from rkkd_cli.sweep.engines.worker import EVENT, FAILED, Message, deserialize
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.train.events import Event
from rkkd_cli.train.stop_controller import StopController

POLL_SECONDS = 0.2


class WorkerDied(Exception):  # noqa: N818  # no error of the run: another worker takes the job
    """A worker has died, and its unsent messages are lost. The text says which one and how."""


class Worker(Protocol):
    """Trains one job at a time."""

    def submit(self, job: Job, state: bytes | None) -> None:
        """Start training the job from a serialised state."""

    def receive(self) -> Message:
        """Return the worker's next message. Raises WorkerDied."""

    def request_stop(self) -> None:
        """Ask the worker to stop after its current step and a checkpoint."""

    def end(self) -> None:
        """Kill the worker, unless it has ended."""


W = TypeVar("W", bound=Worker)


class WorkerFactory(Protocol[W]):
    """Starts workers."""

    def capacity(self) -> int:
        """Return how many workers there can be now. Raises RunError if there can never be one."""

    def start(self) -> W:
        """Return a new worker."""

    def wait(self, workers: Sequence[W], seconds: float) -> Sequence[W]:
        """Return the workers that have sent a message, after at most so many seconds."""


class Pool(Generic[W]):
    """Workers with one job each."""

    def __init__(
        self, factory: WorkerFactory[W], buffer: CommitBuffer, controller: StopController
    ) -> None:
        self.factory, self.buffer, self.controller = factory, buffer, controller
        self.busy: dict[W, Job] = {}
        self.silent: set[W] = set()  # busy ones that have not sent a message yet
        self.idle: list[W] = []
        self.is_stopping = False

    def run(self, jobs: Sequence[Job]) -> Iterator[Event]:
        """Yield events until all jobs are done, or have stopped on request."""
        queue = deque(jobs)
        while queue or self.busy:
            if self.controller.stop_requested:
                queue.clear()
                self._request_stop()
            self._hand_out(queue)
            for worker in self.factory.wait(list(self.busy), POLL_SECONDS):
                yield from self._receive(worker, queue)

    def _hand_out(self, queue: "deque[Job]") -> None:
        while queue and (self.idle or len(self.busy) < self.factory.capacity()):
            worker = self.idle.pop() if self.idle else self.factory.start()
            job = queue.popleft()
            self.busy[worker] = job
            self.silent.add(worker)
            worker.submit(job, self.buffer.state(job))

    def _request_stop(self) -> None:
        """Ask each worker once. One that is still starting has nothing to save, and is killed."""
        if self.is_stopping:
            return
        self.is_stopping = True
        for worker in list(self.busy):
            if worker in self.silent:
                del self.busy[worker]
                worker.end()
            else:
                worker.request_stop()

    def _receive(self, worker: W, queue: "deque[Job]") -> Iterator[Event]:
        job = self.busy[worker]
        self.silent.discard(worker)
        try:
            kind, content = worker.receive()
        except WorkerDied as death:
            del self.busy[worker]
            worker.end()
            yield from self.buffer.handle_death(job, str(death))
            if self.buffer.may_retry(job) and not self.is_stopping:
                queue.appendleft(job)
            return
        if kind == EVENT:
            yield from self.buffer.take(job, deserialize(content))
            return
        del self.busy[worker]
        self.idle.append(worker)
        if kind == FAILED:
            yield self.buffer.give_up(job, content)

    def end(self) -> None:
        """Kill all workers."""
        for worker in (*self.busy, *self.idle):
            worker.end()
