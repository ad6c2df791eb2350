"""Similarity-preserving loss against a loop, its invariances and two implementations."""

import math

import pytest
import torch
from closed_form import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from published import assert_published

from rkkd_cli.losses import similarity_preserving_loss


def similarities(rows: list[list[float]]) -> list[list[float]]:
    products = [[math.fsum(a * b for a, b in zip(x, y, strict=True)) for y in rows] for x in rows]
    return [[value / math.hypot(*row) for value in row] for row in products]


@settings(max_examples=25)
@given(st.floats(0, 6), st.integers(1, 5), st.integers(1, 4))
def test_it_equals_the_loop(phase: float, batch: int, channels: int) -> None:
    student, teacher = wave([batch, channels, 2, 3], phase), wave([batch, 3, 4, 4], phase + 1)
    g_s, g_t = (similarities(x.flatten(1).tolist()) for x in (student, teacher))
    pairs = [(i, j) for i in range(batch) for j in range(batch)]
    expected = math.fsum((g_s[i][j] - g_t[i][j]) ** 2 for i, j in pairs) / batch**2
    ours = similarity_preserving_loss(student, teacher).item()
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-14)


def test_it_is_mdistillers_and_repdistillers_loss() -> None:
    assert_published(
        "similarity", lambda x, _: similarity_preserving_loss(x["student"], x["teacher"])
    )


def test_it_takes_its_arguments_in_either_rank() -> None:
    student, teacher = wave([3, 2, 2, 2]), wave([3, 5], 1.0)
    flat = similarity_preserving_loss(student.flatten(1), teacher)
    assert torch.equal(similarity_preserving_loss(student, teacher), flat)


@settings(max_examples=20)
@given(st.permutations(range(5)), st.floats(0.01, 100))
def test_order_and_scale_do_not_matter(order: list[int], scale: float) -> None:
    student, teacher = wave([5, 4], 0.3), wave([5, 3], 1.2)
    moved = similarity_preserving_loss(scale * student[order], teacher[order])
    torch.testing.assert_close(moved, similarity_preserving_loss(student, teacher))


def test_a_dark_image_does_not_make_the_gradient_explode() -> None:
    student = wave([4, 3])
    student[1] = 0
    student.requires_grad_()
    loss = similarity_preserving_loss(student, wave([4, 3], 1.0))
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.abs().max() < 10
