"""What training costs: parameters and multiply-adds by hand, seconds a step by a clock."""

import json
from typing import Any

import pytest
import torch
from clock import Clock
from trained import CPU, experiment_with

from rkkd_cli.models import build_model, count_parameters
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.cost import inference_costs
from rkkd_cli.train.profile import DATA, EVALUATION, STREAM, WARM_UP_STEPS, StepTimer, untimed
from rkkd_cli.train.teacher.model import Teacher, freeze

LABELS = torch.arange(100)


def teacher(name: str = "resnet8x4") -> Teacher:
    return freeze(build_model(name, 100), CPU, "fp32", 100, 3, (32, 32))


def arms(of: Teacher, student: str = "resnet8", **methods: dict[str, Any]) -> list[ArmOnStream]:
    made = {name: {"method": method} for name, method in methods.items()}
    experiment = experiment_with(f"student.model={student}", arms=made)
    return [ArmOnStream(arm, 0, of, LABELS) for arm in experiment.resolved_arms]


def test_the_multiply_adds_of_resnet8x4_are_the_published_ones() -> None:
    of = teacher()
    cost = inference_costs(arms(of, "resnet8x4", kd={"name": "kd"}), of)["kd"]
    assert cost["macs"] / 1e6 == pytest.approx(177, abs=1)
    assert cost["parameters"] == count_parameters(build_model("resnet8x4", 100)) == 1_233_540
    assert cost["projector_parameters"] == cost["projector_macs"] == 0
    assert cost["training_parameters"] == 0


def test_a_projector_is_counted_apart() -> None:
    of = teacher()
    costs = inference_costs(arms(of, kd={"name": "kd"}, simkd={"name": "simkd"}), of)
    plain, projected = costs["kd"], costs["simkd"]
    weights = 64 * 128 + 128 * 128 * 9 + 128 * 256
    norms = 2 * (128 + 128 + 256)
    assert projected["parameters"] == plain["parameters"]
    assert projected["projector_parameters"] == weights + norms
    assert projected["projector_macs"] == weights * 8 * 8
    reused = 256 * 100  # the student's own classifier is there too, 6,400 more
    assert projected["macs"] == plain["macs"] + projected["projector_macs"] + reused


def test_parts_for_the_training_alone_are_told_apart() -> None:
    of = teacher()
    cost = inference_costs(arms(of, vid={"name": "vid"}), of)["vid"]
    assert cost["training_parameters"] > 0
    assert cost["projector_parameters"] == 0


def test_counting_leaves_the_student_as_it_was() -> None:
    of = teacher()
    (arm,) = arms(of, kd={"name": "kd"})
    before = {name: one.clone() for name, one in arm.student.state_dict().items()}
    inference_costs([arm], of)
    assert arm.student.training
    assert all(torch.equal(before[n], one) for n, one in arm.student.state_dict().items())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("rkkd_cli.train.profile.time", clock)
    return clock


def watched(clock: Clock, steps: int, most: int = 50_000) -> StepTimer:
    """Return a watch of steps with an arm's pass of 2 s, the first of them with one of 30 s."""
    watch = StepTimer(most)
    for step in range(steps):
        with watch(STREAM, DATA):
            clock.sleep(1)
        with watch("kd", "forward"):
            clock.sleep(30 if step == 0 else 2)
    with watch(STREAM, EVALUATION):
        clock.sleep(5)
    return watch


def test_steps_are_averaged_without_the_first_ones_and_without_evaluation(clock: Clock) -> None:
    watch = watched(clock, steps=WARM_UP_STEPS + 4)
    assert watch.seconds_per_step() == {(STREAM, DATA): 1, ("kd", "forward"): 2}
    assert watch.evaluations() == [5]


def test_a_short_training_has_all_its_steps_counted(clock: Clock) -> None:
    assert watched(clock, steps=1).seconds_per_step()["kd", "forward"] == 30
    assert StepTimer().seconds_per_step() == {}


def test_no_more_spans_than_asked_for_are_kept(clock: Clock) -> None:
    assert len(watched(clock, steps=30, most=10).spans) == 10


def test_a_trace_has_a_lane_for_each_arm_and_spans_in_microseconds(clock: Clock) -> None:
    watch = watched(clock, steps=2)
    events = json.loads(watch.trace())["traceEvents"]
    lanes = {e["args"]["name"]: e["tid"] for e in events if e["ph"] == "M"}
    assert set(lanes) == {STREAM, "kd"}
    spans = [e for e in events if e["ph"] == "X"]
    assert len(spans) == len(watch.spans)
    first = next(e for e in spans if e["name"] == "forward")
    assert first["tid"] == lanes["kd"]
    assert first["dur"] == 30e6


def test_what_is_not_watched_is_not_timed() -> None:
    with untimed("kd", "forward") as nothing:
        assert nothing is None
