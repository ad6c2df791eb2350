"""Hands jobs out to workers, wherever they are, and takes in what they tell."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from rkkd_cli.sweep.engines.ledger import Ledger
from rkkd_cli.sweep.engines.worker import EVENT, FAILED, Message, unpack
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.train.events import Event
from rkkd_cli.train.stop_controller import StopController

SECONDS_BETWEEN_LOOKS = 0.2


class WorkerDied(Exception):  # noqa: N818  # no error of the run: the job goes on elsewhere
    """A worker is gone, with all that it had not told; says which one and how."""


class Worker(Protocol):
    """What trains one job at a time."""

    def give(self, job: Job, state: bytes | None) -> None:
        """Let it train the job from the state."""

    def receive(self) -> Message:
        """Return what it has told. Raises WorkerDied."""

    def ask_to_stop(self) -> None:
        """Let it leave off after its step and a checkpoint."""

    def end(self) -> None:
        """End it at once, if it has not ended."""


W = TypeVar("W", bound=Worker)


class Crew(Protocol[W]):
    """Where workers come from."""

    def room(self) -> int:
        """Return how many workers there can be now. Raises RunError if there will never be one."""

    def start(self) -> W:
        """Return a new worker."""

    def wait(self, workers: Sequence[W], seconds: float) -> Sequence[W]:
        """Return those of the workers that have told something, after at most so many seconds."""


class Pool(Generic[W]):
    """Some workers of a crew, each with one job at a time."""

    def __init__(self, crew: Crew[W], ledger: Ledger, controller: StopController) -> None:
        self.crew, self.ledger, self.controller = crew, ledger, controller
        self.busy: dict[W, Job] = {}
        self.silent: set[W] = set()  # those of the busy ones that have not told anything yet
        self.idle: list[W] = []
        self.is_stopping = False

    def run(self, jobs: Sequence[Job]) -> Iterator[Event]:
        """Yield what happens until all jobs are done, or have left off as they were asked to."""
        left = deque(jobs)
        while left or self.busy:
            if self.controller.stop_requested:
                left.clear()
                self._ask_to_stop()
            self._hand_out(left)
            for worker in self.crew.wait(list(self.busy), SECONDS_BETWEEN_LOOKS):
                yield from self._receive(worker, left)

    def _hand_out(self, left: "deque[Job]") -> None:
        while left and (self.idle or len(self.busy) < self.crew.room()):
            worker = self.idle.pop() if self.idle else self.crew.start()
            job = left.popleft()
            self.busy[worker] = job
            self.silent.add(worker)
            worker.give(job, self.ledger.state(job))

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
            yield from self._bury(worker, str(death), left)
            return
        if kind == EVENT:
            yield from self.ledger.take(job, unpack(content))
            return
        del self.busy[worker]
        self.idle.append(worker)
        if kind == FAILED:
            yield self.ledger.failed(job, content)

    def _bury(self, worker: W, what: str, left: "deque[Job]") -> Iterator[Event]:
        job = self.busy.pop(worker)
        worker.end()
        yield from self.ledger.died(job, what)
        if self.ledger.may_retry(job) and not self.is_stopping:
            left.appendleft(job)

    def end(self) -> None:
        """End all workers."""
        for worker in (*self.busy, *self.idle):
            worker.end()
