"""How jobs are handed out: what dies is replaced, what only starts is not waited for."""

from collections import deque
from collections.abc import Sequence

import pytest

from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.sweep.engines.commit_buffer import CommitBuffer
from rkkd_cli.sweep.engines.pool import Pool, WorkerDied
from rkkd_cli.sweep.engines.worker import DONE, EVENT, STOPPED, Message
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.sweep.recording.run_state import RunState
from rkkd_cli.train.events import BatchDone, Event, JobFailed, Note
from rkkd_cli.train.stop_controller import StopController

PROGRESS = BatchDone("s", 1, 1)


class Scripted:
    """A worker that tells what it was written to tell; None is its death."""

    def __init__(self, script: Sequence[Message | None]) -> None:
        self.script, self.given = deque(script), list[str]()
        self.asked = self.ended = False

    def submit(self, job: Job, state: bytes | None) -> None:
        assert state is None
        self.given.append(job.name)

    def receive(self) -> Message:
        message = self.script.popleft()
        if message is None:
            raise WorkerDied("it fell over")
        return message

    def request_stop(self) -> None:
        self.asked = True
        self.script.append((STOPPED, None))

    def end(self) -> None:
        self.ended = True


class Troupe:
    """A crew of such workers, for at most two at once."""

    def __init__(self, *scripts: Sequence[Message | None]) -> None:
        self.scripts, self.started = deque(scripts), list[Scripted]()

    def capacity(self) -> int:
        return 2

    def start(self) -> Scripted:
        self.started.append(Scripted(self.scripts.popleft()))
        return self.started[-1]

    def wait(self, workers: Sequence[Scripted], _: float) -> list[Scripted]:
        return [worker for worker in workers if worker.script]


@pytest.fixture
def begun() -> RunState:
    return RunState(load_experiment("rank_grad", [Override("seeds", [0, 1, 2])]))


def test_a_worker_that_is_done_gets_the_next_job(begun: RunState) -> None:
    event: Message = (EVENT, PROGRESS)
    factory = Troupe(
        [event, (DONE, None), event, (DONE, None)], [event, event, event, (DONE, None)]
    )
    jobs = begun.work().jobs
    events = list(
        Pool(factory, CommitBuffer(begun.states, keep_going=True), StopController(10)).run(jobs)
    )
    assert events == [PROGRESS] * 5
    assert [one.given for one in factory.started] == [[jobs[0].name, jobs[2].name], [jobs[1].name]]


def test_a_job_whose_worker_died_goes_to_a_new_one(begun: RunState) -> None:
    factory = Troupe([None], [(DONE, None)])
    jobs = begun.work().jobs[:1]
    (note,) = Pool(factory, CommitBuffer(begun.states, keep_going=True), StopController(10)).run(
        jobs
    )
    assert isinstance(note, Note)
    assert [one.given for one in factory.started] == [[jobs[0].name], [jobs[0].name]]
    assert [one.ended for one in factory.started] == [True, False]


def test_a_job_that_kills_every_worker_is_given_up(begun: RunState) -> None:
    factory = Troupe(*[[None]] * 4, [(DONE, None)])
    events = list(
        Pool(factory, CommitBuffer(begun.states, keep_going=True), StopController(10)).run(
            begun.work().jobs[:1]
        )
    )
    assert [type(one) for one in events] == [Note, Note, Note, JobFailed]


def test_asked_to_stop_it_waits_for_those_that_train_and_for_no_others(begun: RunState) -> None:
    factory, controller, events = Troupe([(EVENT, PROGRESS)], []), StopController(10), list[Event]()
    for event in Pool(factory, CommitBuffer(begun.states, keep_going=True), controller).run(
        begun.work().jobs
    ):
        events.append(event)
        controller.stop_requested = True
    training, starting = factory.started
    assert events == [PROGRESS]
    assert (training.asked, training.ended) == (True, False)
    assert (starting.asked, starting.ended) == (False, True)
