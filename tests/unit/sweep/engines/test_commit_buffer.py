"""What a recording process lets through of jobs elsewhere: rows only with the checkpoint after."""

from typing import Any

import pytest
import torch

from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.errors import RunError
from rkkd_cli.sweep.engines.ledger import MOST_RETRIES, Ledger
from rkkd_cli.sweep.engines.worker import pack, unpack, unpack_state
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.sweep.recording.run_state import Begun
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
def begun() -> Begun:
    return Begun(load_experiment("rank_grad", [Override("seeds", [0])]))


@pytest.fixture
def job(begun: Begun) -> Job:
    (job,) = begun.plan()
    return job


def taken(ledger: Ledger, job: Job, *events: Event) -> list[Event]:
    return [passed for event in events for passed in ledger.take(job, event)]


def test_rows_wait_for_their_checkpoint(begun: Begun, job: Job) -> None:
    ledger, progress = Ledger(begun, keep_going=True), BatchDone("s", 1, 1)
    assert taken(ledger, job, progress, STOP, ROW) == [progress]
    checkpoint = Checkpoint("s", STATE)
    assert taken(ledger, job, checkpoint) == [STOP, ROW, checkpoint]
    assert taken(ledger, job, checkpoint) == [checkpoint]


def test_what_had_no_checkpoint_dies_with_its_worker(begun: Begun, job: Job) -> None:
    ledger, checkpoint = Ledger(begun, keep_going=True), Checkpoint("s", STATE)
    assert taken(ledger, job, ROW) == []
    (note,) = ledger.died(job, "worker 1 ended")
    assert isinstance(note, Note)
    assert taken(ledger, job, checkpoint) == [checkpoint]


def test_a_job_goes_on_from_the_newest_checkpoint(begun: Begun, job: Job) -> None:
    ledger = Ledger(begun, keep_going=True)
    assert ledger.state(job) is None
    taken(ledger, job, Checkpoint("s", STATE))
    state = ledger.state(job)
    assert state is not None
    found = unpack_state(state)
    assert found.keys() == {"lockstep"}
    assert torch.equal(found["lockstep"]["weights"], STATE["lockstep"]["weights"])


def test_a_job_that_never_gets_on_is_given_up(begun: Begun, job: Job) -> None:
    ledger = Ledger(begun, keep_going=True)
    for _ in range(MOST_RETRIES):
        list(ledger.died(job, "worker 1 ended"))
        assert ledger.may_retry(job)
    (failed,) = ledger.died(job, "worker 1 ended")
    assert failed == JobFailed(job.name, 0, ("kd", "kd_rank"),
                               "worker 1 ended, 4 times without getting on")  # fmt: skip
    assert not ledger.may_retry(job)


def test_a_job_that_gets_on_between_deaths_is_tried_again_and_again(begun: Begun, job: Job) -> None:
    ledger = Ledger(begun, keep_going=True)
    for _ in range(3 * MOST_RETRIES):
        (told,) = ledger.died(job, "worker 1 ended")
        assert isinstance(told, Note)
        taken(ledger, job, Checkpoint("s", STATE))


def test_without_keep_going_a_failure_ends_the_run(begun: Begun, job: Job) -> None:
    with pytest.raises(RunError, match="seed-0-kd: out of memory"):
        Ledger(begun, keep_going=False).failed(job, "out of memory")


def test_events_travel_unchanged_and_checkpoints_by_value() -> None:
    assert unpack(pack(ROW)) == ROW
    arrived = unpack(pack(Checkpoint("s", STATE)))
    assert isinstance(arrived, Checkpoint)
    weights = arrived.state["lockstep"]["weights"]
    assert torch.equal(weights, STATE["lockstep"]["weights"])
    assert weights.data_ptr() != STATE["lockstep"]["weights"].data_ptr()
