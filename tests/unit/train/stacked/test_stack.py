"""Stacked arms: the numbers that each arm has alone, but for rounding."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import trained
from torch import nn
from torchvision.ops import StochasticDepth
from trained import CPU, DIVERGING, NEVER, checkpoints_of, events_of, experiment_with, going_on

from rkkd_cli.data.model_input import taken_as_is
from rkkd_cli.data.stream import Batch
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.models import build_model
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.events import ArmStopped, BatchDone, Event
from rkkd_cli.train.stacked.stack import ArmGroup, Stack, can_stack, group_into_stacks
from rkkd_cli.train.stacked.trial import seconds_per_step
from rkkd_cli.train.stop_controller import StopController
from rkkd_cli.train.taught_batch import TaughtBatch
from rkkd_cli.train.teacher.model import Teacher, freeze

ARMS: dict[str, Any] = {
    "kd": {},
    "nesterov": {"training": {"lr": 0.02, "nesterov": True, "weight_decay": 0.01}},
    "kd_rank": {"rank": {"grad": True}, "training": {"momentum": 0.0, "lr": 0.1}},
    "z_scores": {"rank": {"grad": True, "steepness": 2.0, "standardize": True, "over": "both"}},
    "hot": {"method": {"temperature": 8.0, "alpha": 0.5}},
    "adamw": {"training": {"optimizer": "adamw", "lr": 0.01}},
    "decayed": {"training": {"optimizer": "adamw", "lr": 0.003, "weight_decay": 0.1}},
    "modern": {
        "training": {
            "optimizer": "adam",
            "lr": 0.01,
            "clip_grad_norm": 0.1,
            "norm_bias_decay": False,
            "weight_decay": 0.1,
            "ema_decay": 0.8,
        }
    },
    "clipped": {"training": {"clip_grad_norm": 0.5, "norm_bias_decay": False}},
    "wide": {"student": {"model": "digits_teacher"}},
}
# Of a term after two short epochs, in float32: what rounding has grown to.
TOLERANCE = 2e-3

LABELS = torch.arange(200) % 10
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def teacher() -> Teacher:
    return teacher_on(CPU)


def teacher_on(device: torch.device) -> Teacher:
    torch.manual_seed(0)
    model = build_model("digits_teacher", 10, 1)
    return freeze(model, device, "fp32", 10, taken_as_is(1, (8, 8)))


def students(teacher: Teacher, arms: dict[str, Any] = ARMS) -> list[ArmOnStream]:
    made = [
        ArmOnStream(arm, 0, teacher, LABELS.to(teacher.device))
        for arm in experiment_with(arms=arms).resolved_arms
    ]
    for one in made:
        one.student.double()
        if one.average is not None:
            one.average.double()
    return made


def lessons(count: int, device: torch.device = CPU) -> Iterator[tuple[float, TaughtBatch]]:
    torch.manual_seed(1)
    for number in range(count):
        images = torch.randn(32, 1, 8, 8, dtype=torch.float64)
        images = images.to(device, memory_format=torch.channels_last)
        labels, indices = torch.randint(0, 10, (32,)).to(device), torch.arange(32, device=device)
        batch = Batch(images, labels, indices)
        logits = torch.randn(32, 10, dtype=torch.float64).to(device)
        yield number / count, TaughtBatch(batch, logits_only(logits), None, 1, 1, {})


def close(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11, check_stride=False)


def optimizer_tensors(state: dict[str, Any]) -> dict[tuple[int, str], torch.Tensor]:
    states = state["optimizer"]["state"].items()
    return {(n, k): v for n, values in states for k, v in values.items() if v is not None}


@pytest.mark.parametrize("name", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def test_in_float64_every_state_of_every_arm_is_the_one_it_has_alone(name: str) -> None:
    device = torch.device(name)
    teacher = teacher_on(device)
    alone, together = students(teacher), students(teacher)
    steppings = group_into_stacks(together)
    assert [len(s.members) for s in steppings] == [9, 1]
    for epochs_done, taught in lessons(8, device):
        for one in (*alone, *steppings):
            one.set_rates(epochs_done)
            one.step(taught)
    for one, other in zip(alone, together, strict=True):
        mine, its = one.trained.state(), other.trained.state()
        close(its["model"], mine["model"])
        close(its.get("moving_average", {}), mine.get("moving_average", {}))
        close(optimizer_tensors(its), optimizer_tensors(mine))
        close(its["meters"], mine["meters"])
        assert its["lr"] == mine["lr"]


def test_a_stack_goes_on_from_arms_that_have_stepped_alone_and_back(teacher: Teacher) -> None:
    alone, moved = students(teacher), students(teacher)
    for number, (epochs_done, taught) in enumerate(lessons(6)):
        steppings = group_into_stacks(moved) if 2 <= number < 4 else moved
        for one in (*alone, *steppings):
            one.set_rates(epochs_done)
            one.step(taught)
    for one, other in zip(alone, moved, strict=True):
        close(dict(other.student.state_dict()), dict(one.student.state_dict()))


def test_what_is_frozen_in_an_arm_is_frozen_in_a_stack(teacher: Teacher) -> None:
    chosen = {name: ARMS[name] for name in ("nesterov", "decayed")}
    alone, together = students(teacher, chosen), students(teacher, chosen)
    for arm in (*alone, *together):
        next(arm.student.parameters()).requires_grad_(False)
    before = next(together[0].student.parameters()).clone()
    steppings: list[ArmGroup] = [*alone, Stack(together)]
    for _, taught in lessons(3):
        for one in steppings:
            one.step(taught)
    for arm, other in zip(alone, together, strict=True):
        close(dict(other.student.state_dict()), dict(arm.student.state_dict()))
        assert torch.equal(next(other.student.parameters()), before)


def test_an_arm_that_draws_noise_is_alone(teacher: Teacher) -> None:
    arms = students(teacher, {name: ARMS[name] for name in ("kd", "hot", "nesterov")})
    arms[1].student.add_module("noise", nn.Dropout(0.5))
    assert [type(one) for one in group_into_stacks(arms)] == [Stack, ArmOnStream]
    assert can_stack(arms)
    assert not can_stack(arms[-1:])


def test_dropout_that_drops_nothing_as_in_transformers_does_not_keep_an_arm_alone(
    teacher: Teacher,
) -> None:
    arms = students(teacher, {name: ARMS[name] for name in ("kd", "hot")})
    for arm in arms:
        arm.student.add_module("noise", nn.Dropout(0.0))
    assert [type(one) for one in group_into_stacks(arms)] == [Stack]


@pytest.mark.parametrize("layer", [StochasticDepth(0.5, "row"), type("DropPath", (nn.Module,), {})])
def test_an_arm_that_drops_paths_is_alone(layer: Any, teacher: Teacher) -> None:
    arms = students(teacher, {name: ARMS[name] for name in ("kd", "hot", "nesterov")})
    arms[1].student.add_module("paths", layer() if isinstance(layer, type) else layer)
    assert [type(one) for one in group_into_stacks(arms)] == [Stack, ArmOnStream]
    assert can_stack(arms)
    assert not can_stack(arms[-1:])


def rows_of(events: Sequence[Event]) -> dict[tuple[str, int], trained.Row]:
    return {(row["arm"], row["epoch"]): row for row in trained.rows_of(events)}


@pytest.fixture(scope="module")
def stacked(cache: Path) -> dict[tuple[str, int], trained.Row]:
    """The rows of all arms, stacked."""
    return rows_of(events_of(experiment_with("stacked=true", arms=ARMS), cache))


def test_the_rows_are_those_of_arms_one_after_another(
    stacked: dict[tuple[str, int], trained.Row], cache: Path
) -> None:
    alone = rows_of(events_of(experiment_with(arms=ARMS), cache))
    assert stacked.keys() == alone.keys()
    for cell, row in alone.items():
        for term in ("ce", "kl", "rank", "test_ce", "test_kl", "test_rank"):
            assert stacked[cell][term] == pytest.approx(row[term], rel=TOLERANCE, abs=TOLERANCE)
    some = [row["ce"] - stacked[cell]["ce"] for cell, row in alone.items()]
    assert any(some), "nothing was stacked"


def test_an_interrupted_stack_goes_on_as_if_nothing_had_happened(
    stacked: dict[tuple[str, int], trained.Row], cache: Path
) -> None:
    experiment, controller = experiment_with("stacked=true", arms=ARMS), StopController(NEVER)

    def ask(event: Event) -> None:
        controller.stop_requested |= isinstance(event, BatchDone) and event.batch == 3

    events = events_of(experiment, cache, controller=controller, at_each=ask)
    _, checkpoint = checkpoints_of(events)[-1]
    assert checkpoint.state["lockstep"]["batches_done"] == 3
    assert rows_of(events_of(experiment, cache, going_on(checkpoint))) == stacked


def test_an_arm_that_diverges_leaves_the_others_as_they_are(
    stacked: dict[tuple[str, int], trained.Row], cache: Path
) -> None:
    events = events_of(experiment_with("stacked=true", arms={**ARMS, **DIVERGING}), cache)
    assert [event.arm for event in events if isinstance(event, ArmStopped)] == ["bad"]
    rows = rows_of(events)
    assert rows.keys() == stacked.keys()
    for cell, row in stacked.items():
        assert rows[cell]["kl"] == pytest.approx(row["kl"], rel=TOLERANCE)


def test_a_trial_times_both_ways(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = experiment_with(arms=ARMS).resolved_arms
    batch = Batch(torch.randn(8, 1, 8, 8), torch.randint(0, 10, (8,)), torch.arange(8))
    assert all(0 < one < math.inf for one in seconds_per_step(arms, 0, teacher, batch, LABELS))
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda _, x: x * float(x.detach().mean()))
    alone, together = seconds_per_step(arms, 0, teacher, batch, LABELS)
    assert 0 < alone < together == math.inf
