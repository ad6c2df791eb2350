"""What a watch makes of spans: seconds a step, evaluations apart, a trace."""

import json
import time

import pytest

from rkkd_cli.train.profile import DATA, EVALUATION, STREAM, WARM_UP, StepTimer, untimed


def watched(steps: int, most: int = 50_000) -> StepTimer:
    """Return a watch of steps with an arm's pass of 2 ms, the first of them with one of 30 ms."""
    watch = StepTimer(most)
    for step in range(steps):
        with watch(STREAM, DATA):
            pass
        with watch("kd", "forward"):
            time.sleep(0.03 if step == 0 else 0.002)
    with watch(STREAM, EVALUATION):
        time.sleep(0.005)
    return watch


def test_steps_are_averaged_without_the_first_ones_and_without_evaluation() -> None:
    watch = watched(steps=WARM_UP + 4)
    step = watch.seconds_a_step()
    assert set(step) == {(STREAM, DATA), ("kd", "forward")}
    assert 0.002 <= step["kd", "forward"] < 0.02
    assert step[STREAM, DATA] < step["kd", "forward"]
    (evaluation,) = watch.evaluations()
    assert evaluation >= 0.005


def test_a_short_training_has_all_its_steps_counted() -> None:
    assert watched(steps=1).seconds_a_step()["kd", "forward"] >= 0.03
    assert StepTimer().seconds_a_step() == {}


def test_no_more_spans_than_asked_for_are_kept() -> None:
    assert len(watched(steps=30, most=10).spans) == 10


def test_a_trace_has_a_lane_for_each_arm_and_spans_in_microseconds() -> None:
    watch = watched(steps=2)
    events = json.loads(watch.trace())["traceEvents"]
    lanes = {e["args"]["name"]: e["tid"] for e in events if e["ph"] == "M"}
    assert set(lanes) == {STREAM, "kd"}
    spans = [e for e in events if e["ph"] == "X"]
    assert len(spans) == len(watch.spans)
    first = next(e for e in spans if e["name"] == "forward")
    assert first["tid"] == lanes["kd"]
    assert first["dur"] == pytest.approx(1e6 * watch.spans[1].seconds, abs=0.1)


def test_what_is_not_watched_is_not_timed() -> None:
    with untimed("kd", "forward") as nothing:
        assert nothing is None
