"""Parameters and multiply-adds of an arm's student, against counts by hand."""

from typing import Any

import pytest
import torch

from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.models import build_model, count_parameters
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.cost import costs_of
from rkkd_cli.train.teacher.model import Teacher, freeze

CPU, LABELS = torch.device("cpu"), torch.arange(100)


def teacher(name: str = "resnet8x4") -> Teacher:
    return freeze(build_model(name, 100), CPU, "fp32", 100, 3, (32, 32))


def arms(of: Teacher, student: str = "resnet8", **methods: dict[str, Any]) -> list[ArmOnStream]:
    given = [
        Override("student.model", student),
        Override("arms", {name: {"method": method} for name, method in methods.items()}),
    ]
    experiment = load_experiment("rank_grad", given)
    return [ArmOnStream(arm, 0, of, LABELS) for arm in experiment.resolved_arms]


def test_the_multiply_adds_of_resnet8x4_are_the_published_ones() -> None:
    of = teacher()
    cost = costs_of(arms(of, "resnet8x4", kd={"name": "kd"}), of)["kd"]
    assert cost["macs"] / 1e6 == pytest.approx(177, abs=1)
    assert cost["parameters"] == count_parameters(build_model("resnet8x4", 100)) == 1_233_540
    assert cost["projector_parameters"] == cost["projector_macs"] == 0
    assert cost["training_parameters"] == 0


def test_a_projector_is_counted_apart() -> None:
    of = teacher()
    costs = costs_of(arms(of, kd={"name": "kd"}, simkd={"name": "simkd"}), of)
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
    cost = costs_of(arms(of, vid={"name": "vid"}), of)["vid"]
    assert cost["training_parameters"] > 0
    assert cost["projector_parameters"] == 0


def test_counting_leaves_the_student_as_it_was() -> None:
    of = teacher()
    (arm,) = arms(of, kd={"name": "kd"})
    before = {name: one.clone() for name, one in arm.student.state_dict().items()}
    costs_of([arm], of)
    assert arm.student.training
    assert all(torch.equal(before[n], one) for n, one in arm.student.state_dict().items())
