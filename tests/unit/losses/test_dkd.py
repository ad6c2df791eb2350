"""DKD against loops, at its edges and against mdistiller."""

import math

import pytest
import torch
from closed_form import labels, wave
from hypothesis import given, settings
from hypothesis import strategies as st
from published import assert_published
from torch import Tensor

from rkkd_cli.losses import dkd_loss, dkd_terms, kl_divergence


def softmax(row: list[float], t: float) -> list[float]:
    powers = [math.exp(x / t - max(row) / t) for x in row]
    return [x / math.fsum(powers) for x in powers]


def kl_of(p: list[float], q: list[float]) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def loop_terms(s: Tensor, t: Tensor, target: Tensor, temperature: float) -> tuple[float, float]:
    tckd = nckd = 0.0
    for image, y in enumerate(target.tolist()):
        q, p = softmax(s[image].tolist(), temperature), softmax(t[image].tolist(), temperature)
        tckd += kl_of([p[y], 1 - p[y]], [q[y], 1 - q[y]])
        others = [c for c in range(len(p)) if c != y]
        nckd += kl_of([p[c] / (1 - p[y]) for c in others], [q[c] / (1 - q[y]) for c in others])
    return tckd * temperature**2 / len(target), nckd * temperature**2 / len(target)


@settings(max_examples=40)
@given(st.floats(0, 6), st.integers(1, 4), st.integers(2, 9), st.sampled_from([0.7, 1.0, 4.0]))
def test_both_terms_equal_the_loop(phase: float, batch: int, classes: int, t: float) -> None:
    student, teacher = wave([batch, classes], phase, 2.0), wave([batch, classes], phase + 1, 3.0)
    target = labels(batch, classes)
    expected = loop_terms(student, teacher, target, t)
    terms = [term.item() for term in dkd_terms(student, teacher, target, t)]
    assert terms == pytest.approx(expected, rel=1e-9, abs=1e-11)
    weighted = dkd_loss(student, teacher, target, 0.5, 3.0, t).item()
    assert weighted == pytest.approx(0.5 * expected[0] + 3 * expected[1], rel=1e-9, abs=1e-11)


@settings(max_examples=40)
@given(st.floats(0, 6), st.integers(2, 9), st.sampled_from([0.7, 1.0, 4.0]))
def test_the_two_terms_make_the_kl_divergence(phase: float, classes: int, t: float) -> None:
    student, teacher = wave([1, classes], phase, 2.0), wave([1, classes], phase + 1, 3.0)
    target = labels(1, classes)
    tckd, nckd = dkd_terms(student, teacher, target, t)
    p = torch.softmax(teacher / t, 1)[0, target[0]]
    kl = kl_divergence(student, teacher, t)
    torch.testing.assert_close(tckd + (1 - p) * nckd, kl, rtol=1e-9, atol=1e-11)


def test_it_is_mdistillers_loss() -> None:
    assert_published("dkd", lambda x, s: dkd_loss(x["student"], x["teacher"], x["target"], **s))


def test_the_usual_weights_and_temperature() -> None:
    student, teacher, target = wave([4, 5]), wave([4, 5], 1.0), labels(4, 5)
    default = dkd_loss(student, teacher, target)
    assert torch.equal(default, dkd_loss(student, teacher, target, 1.0, 8.0, 4.0))


def test_two_classes_have_no_order_among_the_others() -> None:
    student = wave([3, 2]).requires_grad_()
    nckd = dkd_terms(student, wave([3, 2], 1.0), labels(3, 2)).nckd
    assert nckd.item() == 0


def test_the_true_class_never_counts_among_the_others_however_large() -> None:
    teacher = torch.tensor([[9e3, 1.0, 2.0]], dtype=torch.float64)
    student = torch.tensor([[9e3, 2.0, 1.0]], dtype=torch.float64)
    without = torch.tensor([[0.0, 1.0, 2.0]]).double(), torch.tensor([[0.0, 2.0, 1.0]]).double()
    target = torch.tensor([0])
    nckd = dkd_terms(student, teacher, target, 1.0).nckd
    torch.testing.assert_close(nckd, dkd_terms(without[1], without[0], target, 1.0).nckd)


def test_a_sure_student_that_is_wrong_gets_its_divergence_not_infinity() -> None:
    # All but the wrong class have probabilities below the smallest float.
    student = torch.tensor([[-1e4, 1e4, 0.0]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[1e4, -1e4, 0.0]], dtype=torch.float64)
    tckd = dkd_terms(student, teacher, torch.tensor([0]), 1.0).tckd
    (gradient,) = torch.autograd.grad(tckd, student)
    assert tckd.item() == pytest.approx(2e4)
    assert gradient[0].tolist() == pytest.approx([-1, 1, 0])


@pytest.mark.parametrize(
    "target", [torch.zeros(3), torch.zeros(2, dtype=torch.int64), torch.zeros(3, 1).long()]
)
def test_a_target_without_one_class_number_per_image_is_refused(target: Tensor) -> None:
    with pytest.raises(ValueError, match="one int64 class number per image"):
        dkd_loss(wave([3, 4]), wave([3, 4]), target)


def test_one_class_and_a_temperature_of_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 classes"):
        dkd_loss(wave([3, 1]), wave([3, 1]), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="temperature must be"):
        dkd_loss(wave([3, 4]), wave([3, 4]), labels(3, 4), temperature=0.0)
