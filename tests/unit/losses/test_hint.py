"""Losses of features against loops, with image weights, and against two implementations."""

import math
from collections.abc import Callable

import pytest
import torch
from closed_form import labels, wave
from hypothesis import given, settings
from hypothesis import strategies as st
from published import assert_published
from torch import Tensor

from rkkd_cli.losses import correctly_classified, feature_kl_loss, hint_loss, match_sizes

Loss = Callable[..., Tensor]
BOTH = pytest.mark.parametrize("loss", [hint_loss, feature_kl_loss])


def squares(student: Tensor, teacher: Tensor) -> float:
    pairs = list(zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True))
    return math.fsum((a - b) ** 2 for a, b in pairs) / len(pairs)


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / math.fsum(powers) for power in powers]


def divergence(student: Tensor, teacher: Tensor) -> float:
    """Of (B, D, H, W) maps."""
    rows = [x.permute(0, 2, 3, 1).flatten(0, 2).tolist() for x in (student, teacher)]
    total = 0.0
    for s, t in zip(*rows, strict=True):
        q, p = softmax(s), softmax(t)
        total += math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / len(rows[0])


@settings(max_examples=25)
@given(st.floats(0, 6), st.integers(1, 3), st.integers(1, 4))
def test_both_equal_the_loops(phase: float, batch: int, channels: int) -> None:
    shape = [batch, channels, 2, 3]
    student, teacher = wave(shape, phase, 2.0), wave(shape, phase + 1, 3.0)
    assert hint_loss(student, teacher).item() == pytest.approx(squares(student, teacher))
    kl = feature_kl_loss(student, teacher).item()
    assert kl == pytest.approx(divergence(student, teacher), rel=1e-9, abs=1e-12)


def test_it_is_repdistillers_hint_loss() -> None:
    assert_published("hint", lambda x, _: hint_loss(x["student"], x["teacher"]))


def test_it_is_simkds_loss_of_maps_of_one_size() -> None:
    assert_published("simkd", lambda x, _: hint_loss(*match_sizes(x["student"], x["teacher"])))


@BOTH
@settings(max_examples=20)
@given(counts=st.lists(st.booleans(), min_size=4, max_size=4).filter(any))
def test_images_that_do_not_count_are_as_if_absent(loss: Loss, counts: list[bool]) -> None:
    student, teacher = wave([4, 3, 2, 2]), wave([4, 3, 2, 2], 1.0)
    mask = torch.tensor(counts)
    only = loss(student[mask], teacher[mask])
    torch.testing.assert_close(loss(student, teacher, mask), only)


@BOTH
def test_weights_are_relative(loss: Loss) -> None:
    student, teacher = wave([2, 3]), wave([2, 3], 1.0)
    first, second = (loss(student[i : i + 1], teacher[i : i + 1]) for i in range(2))
    weighted = loss(student, teacher, torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(weighted, 0.75 * first + 0.25 * second)
    torch.testing.assert_close(loss(student, teacher, torch.ones(2)), loss(student, teacher))


@BOTH
def test_it_is_zero_where_no_image_counts(loss: Loss) -> None:
    student = wave([2, 3]).requires_grad_()
    value = loss(student, wave([2, 3], 1.0), torch.zeros(2, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(value, student)
    assert value.item() == 0
    assert gradient.abs().max().item() == 0


@BOTH
def test_shapes_that_differ_are_refused(loss: Loss) -> None:
    with pytest.raises(ValueError, match="one shape"):
        loss(wave([2, 3]), wave([2, 4]))
    with pytest.raises(ValueError, match="one number per image"):
        loss(wave([2, 3]), wave([2, 3]), torch.ones(2, 1))


def test_one_position_is_the_pooled_feature() -> None:
    student, teacher = wave([2, 5]), wave([2, 5], 1.0)
    as_maps = feature_kl_loss(student[:, :, None, None], teacher[:, :, None, None])
    torch.testing.assert_close(feature_kl_loss(student, teacher), as_maps)


def test_which_images_the_teacher_classifies_correctly() -> None:
    teacher = torch.tensor([[3.0, 1.0], [0.0, 1.0], [2.0, 5.0]])
    assert correctly_classified(teacher, torch.tensor([0, 0, 1])).tolist() == [True, False, True]
    with pytest.raises(ValueError, match="one int64 class number per image"):
        correctly_classified(teacher, labels(2, 2))
