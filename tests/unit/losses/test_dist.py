"""DIST against loops, its invariances and its repository."""

import math

import pytest
import torch
from closed_form import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from published import assert_published
from torch import Tensor

from rkkd_cli.losses import dist_loss, dist_terms


def correlation(x: list[float], y: list[float]) -> float:
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    dx, dy = [v - mean_x for v in x], [v - mean_y for v in y]
    norms = math.sqrt(math.fsum(v * v for v in dx)) * math.sqrt(math.fsum(v * v for v in dy))
    return math.fsum(a * b for a, b in zip(dx, dy, strict=True)) / (norms + 1e-8)


def loop_terms(student: Tensor, teacher: Tensor, t: float) -> tuple[float, float]:
    q, p = torch.softmax(student / t, 1), torch.softmax(teacher / t, 1)
    correlations = [
        [correlation(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
        for a, b in ((q, p), (q.T, p.T))
    ]
    inter, intra = (t * t * (1 - math.fsum(values) / len(values)) for values in correlations)
    return inter, intra


@settings(max_examples=40)
@given(st.floats(0, 6), st.integers(1, 5), st.integers(2, 9), st.sampled_from([0.7, 1.0, 4.0]))
def test_both_terms_equal_the_loop(phase: float, batch: int, classes: int, t: float) -> None:
    student, teacher = wave([batch, classes], phase, 2.0), wave([batch, classes], phase + 1, 3.0)
    expected = loop_terms(student, teacher, t)
    terms = dist_terms(student, teacher, t)
    assert [term.item() for term in terms] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    weighted = dist_loss(student, teacher, t, 2.0, 0.5).item()
    assert weighted == pytest.approx(2 * expected[0] + 0.5 * expected[1], rel=1e-9, abs=1e-9)


@settings(max_examples=30)
@given(st.floats(0, 6), st.floats(-50, 50), st.permutations(range(4)))
def test_a_shift_of_an_image_and_the_order_of_images_do_not_matter(
    phase: float, shift: float, order: list[int]
) -> None:
    student, teacher = wave([4, 6], phase, 2.0), wave([4, 6], phase + 1, 3.0)
    moved = student + shift * wave([4, 1], 0.2)
    terms = torch.stack(dist_terms(student, teacher))
    torch.testing.assert_close(torch.stack(dist_terms(moved[order], teacher[order])), terms)


def test_it_is_the_repositorys_loss_at_temperature_one() -> None:
    assert_published(
        "dist", lambda x, s: dist_loss(x["student"], x["teacher"], temperature=1.0, **s)
    )


@pytest.mark.parametrize("t", [0.5, 4.0])
def test_a_temperature_divides_the_logits_and_multiplies_the_loss_by_its_square(t: float) -> None:
    student, teacher = wave([4, 6], 0.0, 2.0), wave([4, 6], 1.0, 3.0)
    plain = dist_loss(student / t, teacher / t, 1.0)
    torch.testing.assert_close(dist_loss(student, teacher, t), plain * t**2)


def test_one_image_has_no_correlation_within_a_class() -> None:
    student = wave([1, 5]).requires_grad_()
    intra = dist_terms(student, wave([1, 5], 1.0), 2.0).intra
    (gradient,) = torch.autograd.grad(intra, student)
    assert intra.item() == 4
    assert gradient.abs().max().item() == 0


def test_the_usual_weights_and_temperature() -> None:
    student, teacher = wave([4, 5]), wave([4, 5], 1.0)
    assert torch.equal(dist_loss(student, teacher), dist_loss(student, teacher, 4.0, 1.0, 1.0))
