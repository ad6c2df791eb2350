"""Sums over an epoch: image-weighted means, percentages, the first value that is not finite."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rkkd_cli.data.targets import Targets
from rkkd_cli.tasks import CLASSIFICATION_TASK
from rkkd_cli.tasks.task import HeldOutRows
from rkkd_cli.train.metrics.evaluate import collapse_warnings
from rkkd_cli.train.metrics.meters import EpochMeters, NonFinite, SplitMeters

CPU = torch.device("cpu")
VALUES = st.floats(-1e6, 1e6, width=32)


def meters_of(steps: list[dict[str, float]]) -> EpochMeters:
    meters = EpochMeters(("ce", "kl"), ("acc",), CPU)
    for values in steps:
        meters.add(torch.tensor([values["ce"], values["kl"]]), torch.tensor([1]), 4)
    return meters


@given(st.lists(st.tuples(VALUES, st.integers(1, 64), st.integers(0, 64)), min_size=1, max_size=8))
@settings(max_examples=50)
def test_means_weigh_every_image_alike_and_hits_are_percentages(
    steps: list[tuple[float, int, int]],
) -> None:
    meters = EpochMeters(("ce",), ("acc",), CPU)
    for mean, images, correct in steps:
        meters.add(torch.tensor([mean]), torch.tensor([min(correct, images)]), images)
    images = sum(count for _, count, _ in steps)
    averages = meters.averages()
    weighted = math.fsum(mean * count for mean, count, _ in steps) / images
    assert averages["ce"] == pytest.approx(weighted, rel=1e-12, abs=1e-6)
    right = sum(min(correct, count) for _, count, correct in steps)
    assert averages["acc"] == 100 * right / images


def test_a_sum_of_many_small_float32_means_loses_nothing() -> None:
    meters = meters_of([{"ce": 0.1, "kl": 1.0}] * 10_000)
    assert meters.averages()["ce"] == pytest.approx(torch.tensor(0.1).item(), rel=1e-12)


def test_finite_values_are_all_well() -> None:
    assert meters_of([{"ce": 1e30, "kl": -1.0}] * 3).first_non_finite() is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("term", ["ce", "kl"])
def test_the_first_step_that_is_not_finite_is_named_with_its_term(
    bad: float, step: int, term: str
) -> None:
    steps = [{"ce": 1.0, "kl": 2.0} for _ in range(4)]
    steps[step - 1][term] = bad
    assert meters_of(steps).first_non_finite() == NonFinite(term, step)


def test_the_earliest_of_several_terms_is_named() -> None:
    steps = [{"ce": 1.0, "kl": 1.0}, {"ce": 1.0, "kl": math.inf}, {"ce": math.nan, "kl": 1.0}]
    assert meters_of(steps).first_non_finite() == NonFinite("kl", 2)


def test_at_the_same_step_the_first_name_is_named() -> None:
    assert meters_of([{"ce": math.nan, "kl": math.nan}]).first_non_finite() == NonFinite("ce", 1)


def split_meters(logits: Tensor, correct: int) -> SplitMeters:
    """Return the meters of a split with these logits, so many of them of the right class."""
    meters = SplitMeters(("ce",), ("acc",), CPU, CLASSIFICATION_TASK.held_out_metrics(3, CPU))
    for batch in torch.split(logits, 2):
        meters.whole.add(HeldOutRows(batch, Targets(torch.zeros(len(batch)))))
    meters.add(torch.zeros(1), torch.tensor([correct]), len(logits))
    return meters


def test_arms_that_predict_one_class_are_named_unless_it_is_right_for_all_images() -> None:
    one, two = torch.tensor([[0.0, 2.0, 1.0]] * 4), torch.eye(4)[:, :3]
    meters = {"dull": split_meters(one, 1), "kd": split_meters(two, 1), "too": split_meters(one, 3)}
    (warned,) = collapse_warnings(CLASSIFICATION_TASK, 2, 9, meters)
    assert warned.text.startswith(
        "seed 2: after epoch 9, dull, too predict one class for all 4 test images"
    )
    assert [*collapse_warnings(CLASSIFICATION_TASK, 2, 9, {"kd": split_meters(two, 1)})] == []
    assert [*collapse_warnings(CLASSIFICATION_TASK, 2, 9, {"right": split_meters(one, 4)})] == []
