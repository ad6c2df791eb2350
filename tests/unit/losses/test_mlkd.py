"""The multi-level terms against loops, and the whole step against its repository."""

import math

import pytest
import torch
from closed_form import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from published import assert_published
from torch import Tensor

from rkkd_cli.losses import (
    batch_level_loss,
    class_level_loss,
    instance_level_loss,
    kl_divergence,
    low_confidence_classes,
    low_confidence_images,
    mlkd_terms,
    standardize_logits,
)


def similarities(rows: list[list[float]]) -> list[list[float]]:
    return [[math.fsum(a * b for a, b in zip(x, y, strict=True)) for y in rows] for x in rows]


def loop_level(student: Tensor, teacher: Tensor, temperatures: list[float], dim: int) -> float:
    """Pairs of images for ``dim`` 0, of classes for 1."""
    total = 0.0
    for t in temperatures:
        softened = [torch.softmax(x / t, 1) for x in (student, teacher)]
        q, p = (similarities((x if dim == 0 else x.T).tolist()) for x in softened)
        pairs = [(i, j) for i in range(len(q)) for j in range(len(q))]
        total += math.fsum((p[i][j] - q[i][j]) ** 2 for i, j in pairs) / len(q)
    return total


@settings(max_examples=25)
@given(st.floats(0, 6), st.integers(1, 4), st.integers(2, 6))
def test_the_three_levels_equal_the_loops(phase: float, batch: int, classes: int) -> None:
    student, teacher = wave([batch, classes], phase, 2.0), wave([batch, classes], phase + 1, 3.0)
    temperatures = [1.0, 4.0]
    by_batch = batch_level_loss(student, teacher, temperatures).item()
    by_class = class_level_loss(student, teacher, temperatures).item()
    assert by_batch == pytest.approx(loop_level(student, teacher, temperatures, 0), rel=1e-9)
    assert by_class == pytest.approx(loop_level(student, teacher, temperatures, 1), rel=1e-9)
    single = sum(kl_divergence(student, teacher, t) for t in temperatures)
    torch.testing.assert_close(instance_level_loss(student, teacher, temperatures), single)


def test_standardised_logits_enter_the_instance_level_only() -> None:
    student, teacher = wave([4, 5], 0.2, 2.0), wave([4, 5], 1.0, 3.0)
    inputs = (student, teacher, student, teacher.flip(0))
    plain, standardized = mlkd_terms(*inputs), mlkd_terms(*inputs, standardize=True)
    assert plain.instance != standardized.instance
    assert plain[1:] == standardized[1:]
    torch.testing.assert_close(
        instance_level_loss(student, teacher, standardize=True),
        instance_level_loss(standardize_logits(student), standardize_logits(teacher)),
    )


@pytest.mark.parametrize("term", ["kd", "bc", "cc"])
def test_the_step_is_the_repositorys(term: str) -> None:
    views = ("student_weak", "teacher_weak", "student_strong", "teacher_strong")
    index = ("kd", "bc", "cc").index(term)
    assert_published(
        f"mlkd_{term}", lambda x, s: mlkd_terms(*(x[view] for view in views), **s)[index]
    )


def test_standardised_kd_is_the_repositorys() -> None:
    assert_published(
        "standardized_kd",
        lambda x, s: instance_level_loss(x["student"], x["teacher"], [s["temperature"]], True),
    )


def test_the_less_confident_half_of_images_and_classes() -> None:
    teacher = torch.tensor([[9.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.5, 0.0]])
    assert low_confidence_images(teacher).tolist() == [False, True, False, True]
    # Sums of probability: the last class is rarest, the median belongs to the mask.
    assert low_confidence_classes(teacher).tolist() == [True, False, True]


def test_images_alike_are_all_of_low_confidence() -> None:
    alike = torch.zeros(4, 3)
    assert low_confidence_images(alike).all()
    assert low_confidence_classes(alike).all()


@settings(max_examples=20)
@given(st.permutations(range(5)), st.permutations(range(4)))
def test_the_order_of_images_and_of_classes_does_not_matter(
    images: list[int], classes: list[int]
) -> None:
    student, teacher = wave([5, 4], 0.2, 2.0), wave([5, 4], 1.0, 3.0)
    moved = [x[images][:, classes] for x in (student, teacher, student, teacher)]
    terms = torch.stack(mlkd_terms(student, teacher, student, teacher))
    torch.testing.assert_close(torch.stack(mlkd_terms(*moved)), terms)


def test_a_temperature_that_is_not_positive_is_refused() -> None:
    for level in (instance_level_loss, batch_level_loss, class_level_loss):
        with pytest.raises(ValueError, match="temperature must be"):
            level(wave([2, 3]), wave([2, 3]), [1.0, 0.0])
    with pytest.raises(ValueError, match="temperature must be"):
        mlkd_terms(*[wave([2, 3])] * 4, temperature=-1.0)
