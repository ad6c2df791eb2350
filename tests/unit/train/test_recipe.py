"""The learning rate at any moment, and the optimisers' settings."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rkkd_cli.config.experiment import TrainingConfig
from rkkd_cli.train.recipe import build_optimizer, learning_rate, set_learning_rate


def recipe(**settings: Any) -> TrainingConfig:
    return TrainingConfig(**{"epochs": 10, "lr": 0.8} | settings)


@pytest.mark.parametrize(
    ("epochs_done", "expected"),
    [(0, 0.8), (2.99, 0.8), (3, 0.4), (3.5, 0.4), (6.999, 0.4), (7, 0.2), (9.9, 0.2), (10, 0.2)],
)
def test_the_step_schedule_drops_after_whole_milestones(
    epochs_done: float, expected: float
) -> None:
    rate = learning_rate(recipe(milestones=[3, 7], gamma=0.5), epochs_done)
    assert rate == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("epochs", "shares", "drops"),
    [
        (240, [0.625, 0.75, 0.875], [150, 180, 210]),
        (10, [0.31], [3]),
        (10, [0.39], [4]),
        (3, [0.01], [1]),
        (1, [0.5], [1]),
        (20, [0.5, 15], [10, 15]),
    ],
)
def test_a_milestone_below_one_is_a_share_of_all_epochs_to_the_nearest_whole(
    epochs: int, shares: list[float], drops: list[int]
) -> None:
    given = recipe(epochs=epochs, milestones=shares, gamma=0.1)
    for epochs_done in range(epochs):
        passed = sum(1 for drop in drops if epochs_done >= drop)
        assert learning_rate(given, epochs_done) == pytest.approx(0.8 * 0.1**passed)


def test_a_step_schedule_without_milestones_is_constant() -> None:
    assert {learning_rate(recipe(), progress / 4) for progress in range(41)} == {0.8}


@given(st.floats(0, 10))
@settings(max_examples=30)
def test_the_cosine_schedule_falls_from_the_rate_to_nothing(epochs_done: float) -> None:
    expected = 0.8 * (1 + math.cos(math.pi * epochs_done / 10)) / 2
    rate = learning_rate(recipe(schedule="cosine"), epochs_done)
    assert rate == pytest.approx(expected, rel=1e-9, abs=1e-15)


@given(st.floats(0, 10))
@settings(max_examples=20)
def test_the_constant_schedule_ignores_milestones(epochs_done: float) -> None:
    assert learning_rate(recipe(schedule="constant", milestones=[3]), epochs_done) == 0.8


@pytest.mark.parametrize("schedule", ["step", "cosine", "constant"])
@pytest.mark.parametrize(
    ("epochs_done", "expected"), [(0, 0.0), (0.5, 0.2), (1, 0.4), (1.5, 0.6), (2, 0.8)]
)
def test_warm_up_rises_in_a_line_to_the_rate_whatever_follows(
    schedule: str, epochs_done: float, expected: float
) -> None:
    given = recipe(schedule=schedule, warmup_epochs=2, milestones=[5])
    assert learning_rate(given, epochs_done) == pytest.approx(expected)


@given(st.floats(2, 10))
@settings(max_examples=30)
def test_after_warm_up_the_cosine_takes_the_epochs_that_are_left(epochs_done: float) -> None:
    given = recipe(schedule="cosine", warmup_epochs=2)
    expected = 0.8 * (1 + math.cos(math.pi * (epochs_done - 2) / 8)) / 2
    assert learning_rate(given, epochs_done) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@given(st.floats(0, 10))
@settings(max_examples=30)
def test_the_cosine_ends_at_the_least_rate(epochs_done: float) -> None:
    share = (1 + math.cos(math.pi * epochs_done / 10)) / 2
    rate = learning_rate(recipe(schedule="cosine", min_lr=0.2), epochs_done)
    assert rate == pytest.approx(0.2 + 0.6 * share, rel=1e-9)


@pytest.mark.parametrize(
    ("epochs_done", "expected"),
    [(0, 5e-7), (5, 1.25375e-4), (10, 2.5025e-4), (20, 5e-4), (160, 2.525e-4), (300, 5e-6)],
)
def test_a_published_recipe_of_vision_transformers(epochs_done: float, expected: float) -> None:
    """AdamW 5e-4 to 5e-6, warm-up from 5e-7 over 20 of 300 epochs."""
    rates = {"lr": 5e-4, "min_lr": 5e-6, "warmup_lr": 5e-7}
    given = recipe(epochs=300, schedule="cosine", warmup_epochs=20, **rates)
    assert learning_rate(given, epochs_done) == pytest.approx(expected, rel=1e-9)


def test_after_warm_up_the_milestones_stay_where_they_are() -> None:
    given = recipe(warmup_epochs=2, milestones=[5], gamma=0.5)
    assert learning_rate(given, 4.99) == 0.8
    assert learning_rate(given, 5) == 0.4


@given(
    st.sampled_from(["step", "cosine", "constant"]),
    st.floats(0, 10),
    st.lists(st.floats(0.01, 0.99), max_size=3),
    st.floats(0, 1),
)
@settings(max_examples=60)
def test_the_rate_never_leaves_the_range_from_zero_to_the_stated_one(
    schedule: str, warmup: float, milestones: list[float], progress: float
) -> None:
    given = recipe(schedule=schedule, warmup_epochs=warmup, milestones=milestones)
    assert 0 <= learning_rate(given, 10 * progress) <= 0.8


def test_sgd_gets_its_momentum_nesterov_and_weight_decay() -> None:
    settings = {"momentum": 0.7, "nesterov": True, "weight_decay": 0.25}
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, recipe(**settings))
    assert type(optimizer) is torch.optim.SGD
    (group,) = optimizer.param_groups
    assert {key: group[key] for key in settings} == settings
    assert group["lr"] == 0.8
    assert list(map(id, group["params"])) == list(map(id, model.parameters()))


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_gets_its_rate_and_weight_decay_and_ignores_momentum(name: str) -> None:
    given = recipe(optimizer=name, weight_decay=0.25, momentum=0.0, nesterov=True)
    optimizer = build_optimizer(nn.Linear(3, 2), given)
    assert type(optimizer) is {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.8, 0.25)


def test_a_new_rate_reaches_every_parameter_group() -> None:
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    groups = [{"params": list(first.parameters())}, {"params": list(second.parameters())}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    set_learning_rate(optimizer, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]
