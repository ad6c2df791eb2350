"""What a recording process lets through of jobs elsewhere: rows only with the checkpoint after."""

from typing import Any

import pytest
import torch

from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.errors import RunError
from rkkd_cli.sweep.engines.commit_buffer import MAX_RETRIES, CommitBuffer
from rkkd_cli.sweep.engines.worker import deserialize, deserialize_state, serialize
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.sweep.recording.run_state import RunState
from rkkd_cli.train.events import (
    ArmStopped,
    BatchDone,
    Checkpoint,
    EpochDone,
    Event,
    JobFailed,
    Note,
)

ROW = EpochDone("s", 0, 1, ({"arm": "kd"},))
STOP = ArmStopped("s", "kd", 0, 1, 3, "kl")
STATE: dict[str, Any] = {"lockstep": {"weights": torch.tensor([1.0, 2.0])}, "seed": 0}


@pytest.fixture
def begun() -> RunState:
    return RunState(load_experiment("rank_grad", [Override("seeds", [0])]))


@pytest.fixture
def job(begun: RunState) -> Job:
    (job,) = begun.work().jobs
    return job


def taken(buffer: CommitBuffer, job: Job, *events: Event) -> list[Event]:
    return [passed for event in events for passed in buffer.take(job, event)]


def test_rows_wait_for_their_checkpoint(begun: RunState, job: Job) -> None:
    buffer, progress = CommitBuffer(begun.states, keep_going=True), BatchDone("s", 1, 1)
    assert taken(buffer, job, progress, STOP, ROW) == [progress]
    checkpoint = Checkpoint("s", STATE)
    assert taken(buffer, job, checkpoint) == [STOP, ROW, checkpoint]
    assert taken(buffer, job, checkpoint) == [checkpoint]


def test_what_had_no_checkpoint_dies_with_its_worker(begun: RunState, job: Job) -> None:
    buffer, checkpoint = CommitBuffer(begun.states, keep_going=True), Checkpoint("s", STATE)
    assert taken(buffer, job, ROW) == []
    (note,) = buffer.handle_death(job, "worker 1 ended")
    assert isinstance(note, Note)
    assert taken(buffer, job, checkpoint) == [checkpoint]


def test_a_job_goes_on_from_the_newest_checkpoint(begun: RunState, job: Job) -> None:
    buffer = CommitBuffer(begun.states, keep_going=True)
    assert buffer.state(job) is None
    taken(buffer, job, Checkpoint("s", STATE))
    state = buffer.state(job)
    assert state is not None
    found = deserialize_state(state)
    assert found.keys() == {"lockstep"}
    assert torch.equal(found["lockstep"]["weights"], STATE["lockstep"]["weights"])


def test_a_job_that_never_gets_on_is_given_up(begun: RunState, job: Job) -> None:
    buffer = CommitBuffer(begun.states, keep_going=True)
    for _ in range(MAX_RETRIES):
        list(buffer.handle_death(job, "worker 1 ended"))
        assert buffer.may_retry(job)
    (failed,) = buffer.handle_death(job, "worker 1 ended")
    assert failed == JobFailed(job.name, 0, ("kd", "kd_rank"),
                               "worker 1 ended, 4 times without progress")  # fmt: skip
    assert not buffer.may_retry(job)


def test_a_job_that_gets_on_between_deaths_is_tried_again_and_again(
    begun: RunState, job: Job
) -> None:
    buffer = CommitBuffer(begun.states, keep_going=True)
    for _ in range(3 * MAX_RETRIES):
        (note,) = buffer.handle_death(job, "worker 1 ended")
        assert isinstance(note, Note)
        taken(buffer, job, Checkpoint("s", STATE))


def test_without_keep_going_a_failure_ends_the_run(begun: RunState, job: Job) -> None:
    with pytest.raises(RunError, match="seed-0-kd: out of memory"):
        CommitBuffer(begun.states, keep_going=False).give_up(job, "out of memory")


def test_events_travel_unchanged_and_checkpoints_by_value() -> None:
    assert deserialize(serialize(ROW)) == ROW
    arrived = deserialize(serialize(Checkpoint("s", STATE)))
    assert isinstance(arrived, Checkpoint)
    weights = arrived.state["lockstep"]["weights"]
    assert torch.equal(weights, STATE["lockstep"]["weights"])
    assert weights.data_ptr() != STATE["lockstep"]["weights"].data_ptr()
