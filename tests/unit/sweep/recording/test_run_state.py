"""What is left of a run: which cells go on, which begin, which are tried again."""

from collections.abc import Sequence
from typing import Any

import pytest

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.errors import RunError
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.sweep.recording.run_state import RunState, cell_of

ARMS: dict[str, Any] = {name: {"rank": {"weight": n}} for n, name in enumerate("abcde", start=1)}


def experiment_with(arms: str = "abcde", seeds: tuple[int, ...] = (0, 1)) -> Experiment:
    given = {"arms": {name: ARMS[name] for name in arms}, "seeds": seeds, "training.epochs": 3}
    return load_experiment("rank_grad", [Override(key, value) for key, value in given.items()])


def state(name: str, seed: int, active: str, stopped: str = "", epochs: int = 3, number: int = 0,
          rows: str = "") -> dict[str, Any]:  # fmt: skip
    stops = [
        {"stream": name, "arm": arm, "seed": seed, "epoch": 2, "step": 1, "term": "ce"}
        for arm in stopped
    ]
    lockstep = {
        "epochs_done": epochs, "batches_done": 0, "batches": 22, "seconds": 0.0,
        "stacked": False, "stopped": stops,
        "arms": {arm: {"model": 1} for arm in active},
    }  # fmt: skip
    return {"lockstep": lockstep, "seed": seed, "number": number, "sources": {}, "rows": rows}


def described(jobs: Sequence[Job]) -> list[tuple[str, int, str]]:
    return [(job.name, job.seed, "".join(arm.name for arm in job.arms)) for job in jobs]


def test_a_new_run_has_a_job_for_each_seed() -> None:
    jobs = RunState(experiment_with()).work().jobs
    assert described(jobs) == [("seed-0-a", 0, "abcde"), ("seed-1-a", 1, "abcde")]


@pytest.mark.parametrize(("most", "parts"), [(1, "a b c d e"), (2, "ab cd e"), (4, "abc de")])
def test_arms_that_do_not_fit_at_once_are_shared_out_evenly(most: int, parts: str) -> None:
    jobs = RunState(experiment_with(seeds=(0,))).work(lambda _: most).jobs
    assert [arms for _, _, arms in described(jobs)] == parts.split()


def test_only_new_cells_begin() -> None:
    states = {"seed-0-a": state("seed-0-a", 0, "ab")}
    run_state = RunState(experiment_with("abc"), states)
    assert described(run_state.work().jobs) == [("seed-0-c", 0, "c"), ("seed-1-a", 1, "abc")]
    assert [run_state.status((arm, 0)) for arm in "abc"] == ["done", "done", "pending"]


def test_a_stream_goes_on_with_the_arms_that_it_began_with() -> None:
    states = {"seed-0-b": state("seed-0-b", 0, "bd", epochs=1)}
    assert described(RunState(experiment_with(seeds=(0,)), states).work().jobs) == [
        ("seed-0-b", 0, "bd"), ("seed-0-a", 0, "ace"),
    ]  # fmt: skip


def test_a_diverged_cell_is_tried_again_only_when_asked() -> None:
    rows = "a,0,1,x\nb,0,1,x\nb,0,2,x\n"
    states = {"seed-0-a": state("seed-0-a", 0, "b", "a", rows=rows)}
    run_state = RunState(experiment_with("ab", (0,)), states)
    assert run_state.status(("a", 0)) == "failed"
    assert not run_state.work().jobs
    (again,) = run_state.work(retry=True).jobs
    assert (again.name, again.is_retry, again.number) == ("seed-0-a-2", True, 1)
    states["seed-0-a-2"] = state("seed-0-a-2", 0, "a", number=1, rows="a,0,1,y\n")
    later = RunState(experiment_with("ab", (0,)), states)
    assert later.status(("a", 0)) == "done"
    assert later.rows() == {"seed-0-a": "b,0,1,x\nb,0,2,x\n", "seed-0-a-2": "a,0,1,y\n"}


def test_a_job_that_was_given_up_goes_on_only_when_asked() -> None:
    states = {"seed-0-a": state("seed-0-a", 0, "ab", epochs=1)}
    failed = {("a", 0), ("b", 0), ("c", 0)}
    run_state = RunState(experiment_with("abcd", (0,)), states, failed=failed)
    assert described(run_state.work().jobs) == [("seed-0-d", 0, "d")]
    assert described(run_state.work(retry=True).jobs) == [
        ("seed-0-a", 0, "ab"),
        ("seed-0-c", 0, "cd"),
    ]
    assert [run_state.status((arm, 0)) for arm in "abcd"] == ["failed"] * 3 + ["pending"]


def test_streams_that_have_ended_hold_no_weights() -> None:
    states = {"seed-0-a": state("seed-0-a", 0, "ab"), "seed-1-a": state("seed-1-a", 1, "ab", "", 1)}
    run_state = RunState(experiment_with("ab"), states)
    assert run_state.states["seed-0-a"]["lockstep"]["arms"] == {"a": None, "b": None}
    assert run_state.states["seed-1-a"]["lockstep"]["arms"]["a"] == {"model": 1}


@pytest.mark.parametrize("arms", ["", "xy"])
def test_a_state_of_other_arms_is_refused(arms: str) -> None:
    with pytest.raises(RunError, match="does not fit"):
        RunState(experiment_with("ab"), {"seed-0-a": state("seed-0-a", 0, arms)})


@pytest.mark.parametrize(
    ("line", "cell"),
    [("a,0,1,2\n", ("a", 0)), ("a,x,1\n", None), ("a\n", None), ("", None), ("a,²,1", None)],
)
def test_the_cell_of_a_line(line: str, cell: tuple[str, int] | None) -> None:
    assert cell_of(line) == cell
