"""The learnt temperature against its formula and its repository."""

import math

import pytest
import torch
from closed_form import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from published import assert_published
from torch import Tensor

from rkkd_cli.losses import (
    curriculum_temperature,
    gradient_reversal,
    kl_at_temperature,
    kl_divergence,
    reversal_strength,
)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_the_value_stays_and_the_gradient_changes_sign(strength: float) -> None:
    x = wave([4]).requires_grad_()
    value = gradient_reversal(x, strength)
    (gradient,) = torch.autograd.grad((value * wave([4], 1.0)).sum(), x)
    assert torch.equal(value, x)
    torch.testing.assert_close(gradient, -strength * wave([4], 1.0))


@settings(max_examples=25)
@given(st.floats(0.5, 20), st.integers(1, 4), st.integers(2, 6))
def test_it_is_the_kl_divergence_at_that_temperature(t: float, batch: int, classes: int) -> None:
    student, teacher = wave([batch, classes], 0.2, 2.0), wave([batch, classes], 1.0, 3.0)
    expected = kl_divergence(student, teacher, t)
    for temperature in (torch.tensor(t).double(), torch.full((batch, 1), t).double()):
        torch.testing.assert_close(kl_at_temperature(student, teacher, temperature), expected)


def test_each_image_may_have_its_own_temperature() -> None:
    student, teacher = wave([2, 4], 0.2, 2.0), wave([2, 4], 1.0, 3.0)
    alone = [kl_divergence(student[i : i + 1], teacher[i : i + 1], t) for i, t in ((0, 2), (1, 5))]
    both = kl_at_temperature(student, teacher, torch.tensor([2.0, 5.0]))
    torch.testing.assert_close(both, sum(alone) / 2)


def test_gradcheck_of_the_temperature() -> None:
    student, teacher = wave([3, 4], 0.2, 2.0), wave([3, 4], 1.0, 3.0)
    t = torch.tensor([2.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: kl_at_temperature(student, teacher, t), (t,))


def test_loss_and_gradients_are_the_repositorys() -> None:
    assert_published(
        "ctkd",
        lambda x, s: kl_at_temperature(
            x["student"], x["teacher"], curriculum_temperature(x["raw"], **s)
        ),
    )


def test_the_curriculum_is_the_repositorys() -> None:
    assert_published(
        "reversal_strength",
        lambda _, s: torch.tensor(reversal_strength(**s), dtype=torch.float64),
    )


def after_a_step(raw: Tensor) -> Tensor:
    """One step down the reversed gradient."""
    student, teacher = wave([3, 4], 0.2, 2.0), wave([3, 4], 1.0, 3.0)
    loss = kl_at_temperature(student, teacher, curriculum_temperature(raw, 1.0))
    (gradient,) = torch.autograd.grad(loss, raw)
    return raw.detach() - 0.1 * gradient


def test_a_step_of_the_temperature_makes_the_task_harder() -> None:
    student, teacher = wave([3, 4], 0.2, 2.0), wave([3, 4], 1.0, 3.0)
    raw = torch.ones(1, dtype=torch.float64, requires_grad=True)
    before, after = (
        kl_at_temperature(student, teacher, curriculum_temperature(x, 1.0)).item()
        for x in (raw, after_a_step(raw))
    )
    assert after > before


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_strength_goes_from_start_to_end(schedule: str) -> None:
    strengths = [reversal_strength(e, 0.2, 0.8, 10, schedule) for e in range(-3, 30)]
    assert strengths == sorted(strengths)
    assert strengths[0] == pytest.approx(0.2)
    assert strengths[-1] == pytest.approx(0.8 if schedule == "cosine" else 0.2 + 0.6 * 0.9)
    assert reversal_strength(5, 0.0, 1.0, 10, schedule) == pytest.approx(0.5)


def test_the_temperature_lies_above_its_start() -> None:
    raw = torch.tensor([-math.inf, 0.0, math.inf])
    assert curriculum_temperature(raw, 0.5).tolist() == [1, 11, 21]


def test_wrong_shapes_and_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        reversal_strength(1, schedule="cosin")
    with pytest.raises(ValueError, match="epochs must be"):
        reversal_strength(1, epochs=0)
    with pytest.raises(ValueError, match="span must be"):
        curriculum_temperature(torch.ones(1), 1.0, span=0.0)
    with pytest.raises(ValueError, match="one element or one for each of 3 images"):
        kl_at_temperature(wave([3, 4]), wave([3, 4]), torch.ones(2))
