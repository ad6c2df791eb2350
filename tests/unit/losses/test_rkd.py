"""Distances and angles against loops, their invariances and three implementations."""

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from closed_form import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from published import assert_published
from torch import Tensor

from rkkd_cli.losses import rkd_angle_loss, rkd_distance_loss

Loss = Callable[..., Tensor]
BOTH = pytest.mark.parametrize("loss", [rkd_distance_loss, rkd_angle_loss])


def huber(x: float) -> float:
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def difference(a: list[float], b: list[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def relative_distances(rows: list[list[float]]) -> list[float]:
    size = len(rows)
    distances = [math.hypot(*difference(a, b)) for a, b in product(rows, rows)]
    mean = math.fsum(distances) / (size * size - size)
    return [d / mean for d in distances]


def cosines(rows: list[list[float]]) -> list[float]:
    result = []
    for j, i, k in product(rows, rows, rows):
        to_i, to_k = difference(i, j), difference(k, j)
        lengths = math.hypot(*to_i) * math.hypot(*to_k)
        dot = math.fsum(a * b for a, b in zip(to_i, to_k, strict=True))
        result.append(dot / lengths if lengths else 0.0)
    return result


def mean_huber(ours: list[float], theirs: list[float]) -> float:
    return math.fsum(huber(a - b) for a, b in zip(ours, theirs, strict=True)) / len(ours)


@settings(max_examples=25)
@given(st.floats(0, 6), st.integers(2, 5), st.integers(1, 4))
def test_both_equal_the_loops(phase: float, batch: int, features: int) -> None:
    student, teacher = wave([batch, features], phase, 2.0), wave([batch, 3], phase + 1, 9.0)
    rows = student.tolist(), teacher.tolist()
    distance = mean_huber(*(relative_distances(x) for x in rows))
    angle = mean_huber(*(cosines(x) for x in rows))
    assert rkd_distance_loss(student, teacher).item() == pytest.approx(distance, rel=1e-7, abs=1e-9)
    assert rkd_angle_loss(student, teacher).item() == pytest.approx(angle, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("name", ["distance", "angle"])
def test_it_is_mdistillers_repdistillers_and_mmrazors_loss(name: str) -> None:
    loss = {"distance": rkd_distance_loss, "angle": rkd_angle_loss}[name]
    assert_published(f"rkd_{name}", lambda x, s: loss(x["student"], x["teacher"], **s))


@BOTH
@settings(max_examples=20)
@given(order=st.permutations(range(5)), scale=st.floats(0.01, 100), shift=st.floats(-9, 9))
def test_order_scale_and_origin_do_not_matter(
    loss: Loss, order: list[int], scale: float, shift: float
) -> None:
    student, teacher = wave([5, 4], 0.3), wave([5, 3], 1.2)
    moved = loss(student[order] * scale + shift, teacher[order])
    torch.testing.assert_close(moved, loss(student, teacher), rtol=1e-6, atol=1e-8)


@BOTH
def test_maps_are_flattened(loss: Loss) -> None:
    student, teacher = wave([4, 2, 3, 3]), wave([4, 5, 2, 2], 1.0)
    assert torch.equal(loss(student, teacher), loss(student.flatten(1), teacher.flatten(1)))


@BOTH
def test_normalised_embeddings_have_length_one(loss: Loss) -> None:
    student, teacher = wave([4, 3]), wave([4, 5], 1.0)
    units = [torch.nn.functional.normalize(x, dim=1) for x in (student, teacher)]
    torch.testing.assert_close(loss(student, teacher, normalize=True), loss(*units))
    assert loss(student, teacher, normalize=True) != loss(student, teacher)


@BOTH
def test_one_image_has_no_relations(loss: Loss) -> None:
    student = wave([1, 3]).requires_grad_()
    value = loss(student, wave([1, 3], 1.0))
    (gradient,) = torch.autograd.grad(value, student)
    assert value.item() == 0
    assert gradient.abs().max().item() == 0


def gradient_of(loss: Loss, student: Tensor, teacher: Tensor) -> Tensor:
    leaf = student.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, teacher), leaf)
    return gradient


@BOTH
def test_two_images_in_one_place_do_not_make_the_gradient_explode(loss: Loss) -> None:
    student = wave([4, 3])
    student[1] = student[0]
    gradient = gradient_of(loss, student, wave([4, 3], 1.0))
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() < 10
