"""Attention transfer against a loop and two implementations."""

import math

import pytest
import torch
from closed_form import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from published import assert_published
from torch import Tensor

from rkkd_cli.losses import attention_transfer_loss


def attention(image: list[list[list[float]]], p: float) -> list[float]:
    height, width = len(image[0]), len(image[0][0])
    a = [
        math.fsum(abs(channel[h][w]) ** p for channel in image) / len(image)
        for h in range(height)
        for w in range(width)
    ]
    return [value / math.hypot(*a) for value in a]


def loop_loss(student: Tensor, teacher: Tensor, p: float) -> float:
    total, count = 0.0, 0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        pairs = list(zip(attention(s, p), attention(t, p), strict=True))
        total += math.fsum((a - b) ** 2 for a, b in pairs)
        count += len(pairs)
    return total / count


@settings(max_examples=25)
@given(st.floats(0, 6), st.integers(1, 3), st.integers(1, 4), st.sampled_from([1, 1.5, 2, 3, 4]))
def test_it_equals_the_loop(phase: float, batch: int, channels: int, p: float) -> None:
    student, teacher = wave([batch, channels, 2, 3], phase), wave([batch, 2, 2, 3], phase + 1)
    ours = attention_transfer_loss(student, teacher, p).item()
    assert ours == pytest.approx(loop_loss(student, teacher, p), rel=1e-9, abs=1e-14)


def test_it_is_mdistillers_and_repdistillers_loss() -> None:
    assert_published(
        "attention", lambda x, s: attention_transfer_loss(x["student"], x["teacher"], **s)
    )


def test_the_larger_map_is_averaged_down() -> None:
    student, teacher = wave([2, 3, 4, 4]), wave([2, 2, 2, 2], 1.0)
    pooled = torch.nn.functional.avg_pool2d(student, 2)
    torch.testing.assert_close(
        attention_transfer_loss(student, teacher), attention_transfer_loss(pooled, teacher)
    )


@settings(max_examples=20)
@given(st.permutations(range(4)), st.floats(0.01, 100), st.floats(0.01, 100))
def test_the_order_of_channels_and_the_scale_do_not_matter(
    channels: list[int], scale: float, sign: float
) -> None:
    student, teacher = wave([2, 4, 3, 3], 0.3), wave([2, 2, 3, 3], 1.2)
    moved = attention_transfer_loss(-scale * student[:, channels], sign * teacher)
    torch.testing.assert_close(moved, attention_transfer_loss(student, teacher))


@pytest.mark.parametrize("p", [0.5, 0.0, -2.0, math.nan, math.inf])
def test_a_power_below_one_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="power must be a finite number of at least 1"):
        attention_transfer_loss(wave([1, 2, 3, 3]), wave([1, 2, 3, 3]), p)


def test_tensors_that_are_not_maps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(batch, channels, height, width\)"):
        attention_transfer_loss(wave([2, 3]), wave([2, 3]))
