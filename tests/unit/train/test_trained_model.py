"""A model in training, stopped after any step and gone on with elsewhere: bit for bit the same."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from trained import CPU
from weights import through_a_file

from rkkd_cli.config.experiment import TrainingConfig
from rkkd_cli.train.metrics.meters import EpochMeters
from rkkd_cli.train.moving_average import MovingAverage
from rkkd_cli.train.recipe import put_lr_on
from rkkd_cli.train.trained_model import TrainedModel

STEPS = 5
IMAGES = torch.randn(STEPS, 6, 3, 5, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6) % 4

RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.0},
    "momentum": {},
    "nesterov": {"nesterov": True, "schedule": "step", "milestones": [0.5]},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1, "warmup_epochs": 0.5},
    "adam": {"optimizer": "adam", "lr": 0.01, "clip_grad_norm": 0.5, "norm_bias_decay": False},
}
AVERAGED = ("adam", "nesterov")
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),  # before BatchNorm its gradient is rounding noise
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout2d(0.3),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(72, 4),
    )


def trainee_of(recipe: str, layout: torch.memory_format, seed: int = 1) -> TrainedModel:
    """Return a trainee of which everything that changes comes from ``seed``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network().to(memory_format=layout)
    given_recipe: dict[str, Any] = {"epochs": 1, "lr": 0.2, "schedule": "cosine"} | RECIPES[recipe]
    average = MovingAverage(model, 0.7, nn.Identity()) if recipe in AVERAGED else None
    meters = EpochMeters(("ce",), ("acc",), CPU)
    parsed = TrainingConfig(**given_recipe)
    return TrainedModel(model, parsed, seed, meters, moving_average=average)


def step(trained: TrainedModel, number: int) -> None:
    trained.set_rate(number / STEPS)
    torch.rand(number + 1)  # others draw from the global generator in between
    with trained.rng.active():
        logits = trained.model(IMAGES[number])
        loss = nn.functional.cross_entropy(logits, LABELS)
        trained.backward_and_step(loss)
    correct = (logits.argmax(dim=1) == LABELS).sum()
    trained.meters.add(loss.detach()[None], correct[None], len(LABELS))


def assert_same(one: Any, other: Any, where: str = "state") -> None:
    """Every bit, every type and every layout."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert one.stride() == other.stride(), where
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for place, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{place}]")
    else:
        assert one == other, where


def never_stopped(recipe: str, layout: torch.memory_format) -> dict[str, Any]:
    trained = trainee_of(recipe, layout)
    for number in range(STEPS):
        step(trained, number)
    return through_a_file(trained.state())


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_stopped_after_any_step_and_gone_on_with_in_a_fresh_object_all_is_the_same(
    recipe: str, layout: str
) -> None:
    wanted = never_stopped(recipe, FORMATS[layout])
    for stop in range(STEPS + 1):
        first = trainee_of(recipe, FORMATS[layout])
        for number in range(stop):
            step(first, number)
        kept = through_a_file(first.state())
        second = trainee_of(recipe, FORMATS[layout], seed=99)
        second.load(kept)
        for number in range(stop, STEPS):
            step(second, number)
        assert_same(second.state(), wanted)


@pytest.mark.parametrize("recipe", RECIPES)
def test_stopped_after_every_step_all_is_the_same(recipe: str) -> None:
    trained = trainee_of(recipe, torch.channels_last)
    for number in range(STEPS):
        step(trained, number)
        kept = through_a_file(trained.state())
        trained = trainee_of(recipe, torch.channels_last, seed=50 + number)
        trained.load(kept)
        assert_same(trained.state(), kept)
    assert_same(trained.state(), never_stopped(recipe, torch.channels_last))


def two_steps() -> tuple[TrainedModel, dict[str, Any]]:
    trained = trainee_of("momentum", torch.channels_last)
    for number in range(2):
        step(trained, number)
    return trained, through_a_file(trained.state())


@pytest.mark.parametrize("part", ["model", "optimizer", "generators", "meters"])
def test_without_any_one_part_of_the_state_the_next_step_would_be_another(part: str) -> None:
    trained, kept = two_steps()
    other = trainee_of("momentum", torch.channels_last, seed=99)
    other.load(kept | {part: through_a_file(other.state())[part]})
    for one in (trained, other):
        step(one, 2)
    with pytest.raises(AssertionError):
        assert_same(other.state(), trained.state())


@pytest.mark.parametrize("part", ["model", "optimizer", "generators", "meters", "lr"])
def test_a_state_that_lacks_a_part_is_refused(part: str) -> None:
    trained, kept = two_steps()
    del kept[part]
    with pytest.raises(KeyError, match=part):
        trained.load(kept)


def test_loading_and_going_on_leaves_the_global_generator_alone() -> None:
    trained = trainee_of("momentum", torch.contiguous_format)
    kept = through_a_file(trained.state())
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    other = trainee_of("momentum", torch.contiguous_format, seed=99)
    other.load(kept)
    with other.rng.active():
        torch.rand(100)
    assert torch.equal(torch.rand(4), expected)


def test_a_state_of_another_network_or_optimiser_is_refused() -> None:
    trained = trainee_of("momentum", torch.contiguous_format)
    step(trained, 0)
    kept = through_a_file(trained.state())
    other = TrainedModel(nn.Linear(3, 2), trained.recipe, 0, EpochMeters(("ce",), ("acc",), CPU))
    with pytest.raises(RuntimeError, match="state_dict"):
        other.load(kept)
    groups = kept["optimizer"] | {"param_groups": kept["optimizer"]["param_groups"] * 2}
    with pytest.raises(ValueError, match="parameter group"):
        trained.load(kept | {"optimizer": groups})


VALUES = st.one_of(st.floats(width=32), st.sampled_from([math.nan, math.inf, -math.inf]))
STEP = st.tuples(VALUES, VALUES, st.integers(0, 4))


def add(meters: EpochMeters, steps: list[tuple[float, float, int]]) -> EpochMeters:
    for ce, kl, correct in steps:
        meters.add(torch.tensor([ce, kl]), torch.tensor([correct]), 4)
    return meters


@given(st.lists(STEP, max_size=6), st.lists(STEP, min_size=1, max_size=6))
@settings(max_examples=60)
def test_sums_that_went_through_a_file_go_on_as_if_nothing_had_happened(
    before: list[tuple[float, float, int]], after: list[tuple[float, float, int]]
) -> None:
    names = (("ce", "kl"), ("acc",), CPU)
    alone = add(EpochMeters(*names), before + after)
    kept = through_a_file(add(EpochMeters(*names), before).state())
    gone_on = add(EpochMeters(*names), [(9.0, math.nan, 1)])  # whatever it held before
    gone_on.load(kept)
    add(gone_on, after)
    assert gone_on.first_non_finite() == alone.first_non_finite()
    averages = zip(gone_on.averages().values(), alone.averages().values(), strict=True)
    assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in averages)
    assert gone_on.images == alone.images


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_state_of_a_fused_optimiser_goes_on_in_one_that_is_not_and_back(recipe: str) -> None:
    """As one has that moves from a GPU to a CPU; fused sums differ in the last bits."""
    layout = torch.contiguous_format
    wanted = never_stopped(recipe, layout)["model"]
    fused, plain = trainee_of(recipe, layout), trainee_of(recipe, layout)
    for group in fused.optimizer.param_groups:
        group["fused"] = True
    put_lr_on(CPU, fused.optimizer)
    for number in range(STEPS):
        one, other = (fused, plain) if number % 2 else (plain, fused)
        step(one, number)
        other.load(through_a_file(one.state()))
        for trained in (one, other):
            for group in trained.optimizer.param_groups:
                has_tensor = isinstance(group["lr"], torch.Tensor)
                assert bool(group["fused"]) is has_tensor is (trained is fused)
                assert float(group["lr"]) == pytest.approx(trained.lr)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-6)
