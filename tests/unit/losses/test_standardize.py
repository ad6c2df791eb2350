"""Standardised logits against the definition and their repository."""

import statistics

import pytest
import torch
from closed_form import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from published import assert_published

from rkkd_cli.losses import standardize_logits


@settings(max_examples=40)
@given(st.floats(0, 6), st.integers(1, 4), st.integers(2, 9), st.floats(0.1, 50))
def test_it_is_the_definition(phase: float, batch: int, classes: int, scale: float) -> None:
    logits = wave([batch, classes], phase, scale)
    expected = [
        [(z - statistics.mean(row)) / (1e-7 + statistics.stdev(row)) for z in row]
        for row in logits.tolist()
    ]
    ours = standardize_logits(logits)
    torch.testing.assert_close(ours, torch.tensor(expected).double(), rtol=1e-6, atol=1e-8)


@settings(max_examples=40)
@given(st.floats(-100, 100), st.floats(0.1, 100))
def test_shift_and_scale_do_not_matter(shift: float, scale: float) -> None:
    logits = wave([3, 7], 0.3)
    moved = standardize_logits(logits * scale + shift)
    torch.testing.assert_close(moved, standardize_logits(logits), rtol=1e-5, atol=1e-5)


def test_it_is_the_repositorys() -> None:
    assert_published("standardize", lambda x, _: standardize_logits(x["student"]))


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(standardize_logits, (wave([3, 4]).requires_grad_(),))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4, -12345.678])
def test_equal_logits_become_zeros_with_a_finite_gradient(value: float) -> None:
    logits = torch.full((2, 7), value).requires_grad_()
    standardized = standardize_logits(logits)
    (gradient,) = torch.autograd.grad((standardized * torch.arange(7)).sum(), logits)
    assert torch.equal(standardized, torch.zeros(2, 7))
    assert torch.isfinite(gradient).all()


def test_bfloat16_is_computed_in_float32_and_float64_stays() -> None:
    half = wave([3, 4]).bfloat16()
    assert torch.equal(standardize_logits(half), standardize_logits(half.float()))
    assert standardize_logits(half).dtype == torch.float32
    assert standardize_logits(wave([3, 4])).dtype == torch.float64


def test_wrong_logits_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 classes"):
        standardize_logits(torch.zeros(3, 1))
    for wrong in (torch.zeros(3), torch.zeros(3, 4, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"floating-point and \(batch, classes\)"):
            standardize_logits(wrong)
