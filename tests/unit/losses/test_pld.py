"""The Plackett–Luce loss against a loop, and the losses that it contains."""

import math

import pytest
import torch
from closed_form import labels, wave
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses import plackett_luce_loss


def order_of(teacher: list[float], y: int) -> list[int]:
    """Return the true class, then the others by falling teacher logit."""
    return [y, *sorted((c for c in range(len(teacher)) if c != y), key=lambda c: -teacher[c])]


def drawn(student: list[float], order: list[int]) -> list[float]:
    """Return −log of the probability of each draw of the order."""
    return [
        math.log(math.fsum(math.exp(student[c]) for c in order[k:])) - student[order[k]]
        for k in range(len(order))
    ]


def loop_loss(s: Tensor, t: Tensor, target: Tensor, temperature: float) -> float:
    total = 0.0
    for student, teacher, y in zip(s.tolist(), t.tolist(), target.tolist(), strict=True):
        order = order_of(teacher, y)
        powers = [math.exp(x / temperature) for x in teacher]
        draws = drawn(student, order)
        total += math.fsum(powers[c] * d for c, d in zip(order, draws, strict=True)) / sum(powers)
    return total / len(target)


@settings(max_examples=40)
@given(st.floats(0, 6), st.integers(1, 4), st.integers(1, 9), st.sampled_from([0.7, 1.0, 4.0]))
def test_it_equals_the_loop(phase: float, batch: int, classes: int, t: float) -> None:
    student, teacher = wave([batch, classes], phase, 2.0), wave([batch, classes], phase + 1, 3.0)
    target = labels(batch, classes)
    loss = plackett_luce_loss(student, teacher, target, t).item()
    assert loss == pytest.approx(loop_loss(student, teacher, target, t), rel=1e-9, abs=1e-11)


def test_a_teacher_that_is_sure_of_the_true_class_leaves_cross_entropy() -> None:
    student, target = wave([4, 5], 0.4, 2.0), labels(4, 5)
    sure = 1e3 * F.one_hot(target, 5).double() + wave([4, 5])
    torch.testing.assert_close(
        plackett_luce_loss(student, sure, target), F.cross_entropy(student, target)
    )


def test_equal_weights_leave_the_likelihood_of_the_order() -> None:
    student, teacher, target = wave([3, 5], 0.4, 2.0), wave([3, 5], 1.9, 3.0), labels(3, 5)
    rows = zip(student.tolist(), teacher.tolist(), target.tolist(), strict=True)
    list_mle = [math.fsum(drawn(s, order_of(t, y))) for s, t, y in rows]
    loss = plackett_luce_loss(student, teacher, target, temperature=1e12)
    assert loss.item() == pytest.approx(math.fsum(list_mle) / 3 / 5, rel=1e-9)


def test_of_equal_teacher_logits_the_lower_class_number_comes_first() -> None:
    student, target = wave([1, 5], 0.4, 2.0), torch.tensor([3])
    tied, broken = torch.zeros(1, 5).double(), torch.tensor([[4e-9, 3e-9, 2e-9, 0, 1e-9]]).double()
    torch.testing.assert_close(
        plackett_luce_loss(student, tied, target), plackett_luce_loss(student, broken, target)
    )


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be"):
        plackett_luce_loss(wave([2, 3]), wave([2, 3], 1.0), labels(2, 3), temperature)
