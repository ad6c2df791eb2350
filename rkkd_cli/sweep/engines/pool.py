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


class WorkerDied(Exception):  # noqa: N818  # no error of the run: the job goes on elsewhere
    """A worker has died, with every message that it had not sent; says which one and how."""


class Worker(Protocol):
    """What trains one job at a time."""

    def give(self, job: Job, state: bytes | None) -> None:
        """Let it train the job from a serialised state."""

    def receive(self) -> Message:
        """Return its next message. Raises WorkerDied."""

    def ask_to_stop(self) -> None:
        """Let it stop after its current step and a checkpoint."""

    def end(self) -> None:
        """End it at once, if it has not ended."""


W = TypeVar("W", bound=Worker)


class WorkerFactory(Protocol[W]):
    """Where workers come from."""

    def room(self) -> int:
        """Return how many workers there can be now. Raises RunError if there will never be one."""

    def start(self) -> W:
        """Return a new worker."""

    def wait(self, workers: Sequence[W], seconds: float) -> Sequence[W]:
        """Return the workers that have sent something, after at most so many seconds."""


class Pool(Generic[W]):
    """Some workers of a crew, each with one job at a time."""

    def __init__(
        self, factory: WorkerFactory[W], buffer: CommitBuffer, controller: StopController
    ) -> None:
        self.factory, self.buffer, self.controller = factory, buffer, controller
        self.busy: dict[W, Job] = {}
        self.silent: set[W] = set()  # busy ones that have not sent anything yet
        self.idle: list[W] = []
        self.is_stopping = False

    def run(self, jobs: Sequence[Job]) -> Iterator[Event]:
        """Yield events until all jobs are done, or have stopped as they were asked to."""
        left = deque(jobs)
        while left or self.busy:
            if self.controller.stop_requested:
                left.clear()
                self._ask_to_stop()
            self._hand_out(left)
            for worker in self.factory.wait(list(self.busy), POLL_SECONDS):
                yield from self._receive(worker, left)

    def _hand_out(self, left: "deque[Job]") -> None:
        while left and (self.idle or len(self.busy) < self.factory.room()):
            worker = self.idle.pop() if self.idle else self.factory.start()
            job = left.popleft()
            self.busy[worker] = job
            self.silent.add(worker)
            worker.give(job, self.buffer.state(job))

    def _ask_to_stop(self) -> None:
        """Ask each worker once; one that is only starting has nothing to keep, and is ended."""
        if self.is_stopping:
            return
        self.is_stopping = True
        for worker in list(self.busy):
            if worker in self.silent:
                del self.busy[worker]
                worker.end()
            else:
                worker.ask_to_stop()

    def _receive(self, worker: W, left: "deque[Job]") -> Iterator[Event]:
        job = self.busy[worker]
        self.silent.discard(worker)
        try:
            kind, content = worker.receive()
        except WorkerDied as death:
            yield from self._handle_death(worker, str(death), left)
            return
        if kind == EVENT:
            yield from self.buffer.take(job, deserialize(content))
            return
        del self.busy[worker]
        self.idle.append(worker)
        if kind == FAILED:
            yield self.buffer.failed(job, content)

    def _handle_death(self, worker: W, what: str, left: "deque[Job]") -> Iterator[Event]:
        job = self.busy.pop(worker)
        worker.end()
        yield from self.buffer.died(job, what)
        if self.buffer.may_retry(job) and not self.is_stopping:
            left.appendleft(job)

    def end(self) -> None:
        """End all workers."""
        for worker in (*self.busy, *self.idle):
            worker.end()
