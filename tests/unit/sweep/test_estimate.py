"""What a job is said to need, against what can be counted by hand."""

import pytest
import torch
from torch import Tensor

from rkkd_cli.config.overrides import Override, parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.models import Features
from rkkd_cli.sweep.estimate import Memory, epoch_time, memory_of
from rkkd_cli.train.teacher.model import Teacher


def memory(*overrides: str) -> Memory:
    given = [parse_override(one) for one in overrides]
    return memory_of(load_experiment("rank_grad", given).resolved_arms)


def test_an_arm_keeps_weights_gradients_optimizer_and_checkpoints() -> None:
    floats = 438  # of the digits student
    assert memory().per_arm == 4 * floats * (1 + 2 + 2 * 2)
    assert memory("training.optimizer=adamw").per_arm == 4 * floats * (1 + 3 + 2 * 3)


def test_larger_batches_need_more_and_more_arms_nothing_shared() -> None:
    assert memory("training.batch_size=128").shared > memory().shared
    one = memory_of(load_experiment("rank_grad", []).resolved_arms[:1])
    assert one.shared == memory().shared


@pytest.mark.parametrize(("free", "arms"), [(0, 1), (1_000, 1), (10_000, 70), (20_000, 150)])
def test_as_many_arms_fit_as_four_fifths_of_the_memory_hold(free: int, arms: int) -> None:
    assert Memory(shared=1_000, per_arm=100).max_arms(free) == arms


def test_an_epoch_takes_longer_with_more_arms() -> None:
    arms = load_experiment("rank_grad", []).resolved_arms
    one, both = (epoch_time(some, torch.device("cpu")) for some in (arms[:1], arms))
    assert 0 < one.teacher < one.epoch < 60
    assert both.arms / one.arms == pytest.approx(2, rel=0.9)


def test_the_teachers_second_look_is_counted_only_where_a_method_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[str] = []
    see, method = Teacher.outputs, ""

    def counted(self: Teacher, images: Tensor, features: bool) -> Features:
        looks.append(method)
        return see(self, images, features)

    monkeypatch.setattr(Teacher, "outputs", counted)
    for method in ("kd", "mlkd"):
        arms = load_experiment("rank_grad", [Override("method.name", method)]).resolved_arms
        epoch_time(arms, torch.device("cpu"))
    assert looks.count("mlkd") == 2 * looks.count("kd") > 0
