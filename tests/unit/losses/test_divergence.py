"""KL divergence and soft cross-entropy against loops in float64."""

import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rkkd_cli.losses import kl_divergence, soft_cross_entropy
from rkkd_cli.losses.divergence import (
    LARGE_TEMPERATURE,
    kl_at_any_temperature,
    kl_per_image,
)

TEMPERATURES = (0.5, 1.0, 4.0, 20.0)
Loss = Callable[[Tensor, Tensor, float], Tensor]
BOTH: tuple[Loss, ...] = (kl_divergence, soft_cross_entropy)


def softmax(row: list[float], temperature: float) -> list[float]:
    scaled = [value / temperature for value in row]
    powers = [math.exp(value - max(scaled)) for value in scaled]
    return [power / sum(powers) for power in powers]


def loop_sums(student: Tensor, teacher: Tensor, temperature: float) -> tuple[float, float]:
    """Cross-entropy and the teacher's entropy, each the mean over the images, without T²."""
    cross = entropy = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        for p, q in zip(softmax(t, temperature), softmax(s, temperature), strict=True):
            cross -= p * math.log(q) / len(student)
            entropy -= p * math.log(p) / len(student)
    return cross, entropy


def logits(seed: int, batch: int = 3, classes: int = 5, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, classes, generator=generator, dtype=torch.float64) * scale


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 9), st.sampled_from(TEMPERATURES))
def test_both_equal_the_loop(seed: int, batch: int, classes: int, temperature: float) -> None:
    student, teacher = logits(seed, batch, classes), logits(seed + 1, batch, classes)
    cross, entropy = loop_sums(student, teacher, temperature)
    kl = kl_divergence(student, teacher, temperature).item()
    assert kl == pytest.approx((cross - entropy) * temperature**2, rel=1e-9, abs=1e-10)
    assert soft_cross_entropy(student, teacher, temperature).item() == pytest.approx(cross)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_t_squared_can_be_left_out(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    scaled = kl_divergence(student, teacher, temperature)
    plain = kl_divergence(student, teacher, temperature, scale_by_t2=False)
    torch.testing.assert_close(scaled, plain * temperature**2)


def test_the_usual_temperature_is_four() -> None:
    student, teacher = logits(0), logits(1)
    assert torch.equal(kl_divergence(student, teacher), kl_divergence(student, teacher, 4.0))


def test_equal_logits_and_equal_up_to_a_constant_have_no_divergence() -> None:
    same = logits(2)
    assert kl_divergence(same, same).item() == 0
    assert kl_divergence(same + 3, same).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_both_have_the_same_gradient_up_to_t_squared(temperature: float) -> None:
    student, teacher = logits(3).requires_grad_(), logits(4)
    (kl,) = torch.autograd.grad(kl_divergence(student, teacher, temperature), student)
    (ce,) = torch.autograd.grad(soft_cross_entropy(student, teacher, temperature), student)
    torch.testing.assert_close(kl, ce * temperature**2)
    p, q = (torch.softmax(x.detach() / temperature, 1) for x in (teacher, student))
    torch.testing.assert_close(kl, (q - p) * temperature / len(student))


@pytest.mark.parametrize("loss", BOTH)
def test_the_gradient_passes_gradcheck_and_goes_to_the_student_only(loss: Loss) -> None:
    student, teacher = logits(5).requires_grad_(), logits(6).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher.detach(), 2.0), (student,))
    value = loss(student, teacher, 2.0)
    grads = torch.autograd.grad(value, (student, teacher), allow_unused=True)
    assert grads[0] is not None
    assert grads[1] is None


@pytest.mark.parametrize("loss", BOTH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_huge_logits_stay_finite(loss: Loss, dtype: torch.dtype) -> None:
    student = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype).requires_grad_()
    teacher = torch.tensor([[-1e4, 1e4, 0.0], [1e4, -1e4, 1e4]], dtype=dtype)
    value = loss(student, teacher, 4.0)
    (gradient,) = torch.autograd.grad(value, student)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("loss", BOTH)
def test_bfloat16_is_computed_in_float32(loss: Loss) -> None:
    student, teacher = logits(7).bfloat16(), logits(8).bfloat16()
    value = loss(student, teacher, 4.0)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(student.float(), teacher.float(), 4.0))


@pytest.mark.parametrize("loss", BOTH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_changes_nothing(loss: Loss, dtype: torch.dtype) -> None:
    student, teacher = logits(9).to(dtype), logits(10).to(dtype)
    plain = loss(student, teacher, 4.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss(student, teacher, 4.0)
    assert cast.dtype == dtype
    assert torch.equal(cast, plain)


@pytest.mark.parametrize("loss", BOTH)
@pytest.mark.parametrize("temperature", [0.0, -4.0, math.nan, math.inf])
def test_a_temperature_that_is_not_positive_is_refused(loss: Loss, temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be"):
        loss(logits(0), logits(1), temperature)


@pytest.mark.parametrize("loss", BOTH)
@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (3,), (3, 5, 1)])
def test_shapes_that_differ_are_refused(loss: Loss, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must both be \(batch, classes\)"):
        loss(torch.zeros(3, 5), torch.zeros(shape), 4.0)


@pytest.mark.parametrize("loss", BOTH)
def test_an_empty_batch_and_whole_numbers_are_refused(loss: Loss) -> None:
    with pytest.raises(ValueError, match="the batch is empty"):
        loss(torch.zeros(0, 5), torch.zeros(0, 5), 4.0)
    with pytest.raises(ValueError, match="floating-point"):
        loss(torch.zeros(3, 5, dtype=torch.int64), torch.zeros(3, 5), 4.0)


def exact_divergence(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """KL × T² by rational series: no digit is lost at any temperature."""
    with localcontext(Context(prec=60)):
        scale, total = Decimal(temperature), Decimal(0)
        for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
            q, p = ([(Decimal(x) / scale).exp() for x in row] for row in (s, t))
            ratios = zip(p, q, strict=True)
            total += sum(a / sum(p) * ((a / sum(p)) / (b / sum(q))).ln() for a, b in ratios)
        return float(total * scale**2 / len(student))


@pytest.mark.parametrize("exponent", [-1, 0, 1, 1.8, 1.9, 2, 3, 4, 5, 6, 12, 30, 100])
@pytest.mark.parametrize("classes", [2, 100])
def test_float32_is_right_at_every_temperature(exponent: float, classes: int) -> None:
    temperature = 10.0**exponent
    student, teacher = (logits(seed, 2, classes, 4.0).float() for seed in (20, 21))
    exact = exact_divergence(student, teacher, temperature if exponent < 13 else 1e12)
    assert kl_divergence(student, teacher, temperature).item() == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("temperature", [100.0, 1e4, 1e6])
@pytest.mark.parametrize("apart", [0.0, 1e-6, 1e-3, 1.0, 1e4])
def test_it_is_never_negative_at_large_temperatures(temperature: float, apart: float) -> None:
    teacher = logits(22, 50, 10).float()
    student = teacher + apart * logits(23, 50, 10).float()
    per_image = kl_at_any_temperature(student, teacher, torch.full((1, 1), temperature))
    assert (per_image >= 0).all()
    assert kl_divergence(teacher + 3, teacher, temperature).item() < 1e-10


def test_at_usual_temperatures_and_for_distant_images_nothing_is_changed() -> None:
    students, teachers = logits(24, 8, 10).float(), logits(25, 8, 10).float()
    for temperature, scale in ((1.0, 1), (4.0, 1), (LARGE_TEMPERATURE, 1), (100.0, 1e4)):
        inputs = students * scale, teachers * scale, torch.full((1, 1), temperature)
        assert torch.equal(kl_at_any_temperature(*inputs), kl_per_image(*inputs))


@pytest.mark.parametrize("temperature", [100.0, 1e4, 1e6, 1e30])
def test_the_gradient_at_large_temperatures_is_that_of_its_limit(temperature: float) -> None:
    student, teacher = logits(26).float().requires_grad_(), logits(27).float()
    (gradient,) = torch.autograd.grad(kl_divergence(student, teacher, temperature), student)
    exact_student = student.detach().double().requires_grad_()
    exact = kl_divergence(exact_student, teacher.double(), min(temperature, 1e6))
    (expected,) = torch.autograd.grad(exact, exact_student)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-6)
    far = (student.detach() * 1e6).requires_grad_()
    (gradient,) = torch.autograd.grad(kl_divergence(far, teacher, temperature), far)
    assert torch.isfinite(gradient).all()


def test_without_t_squared_it_falls_with_it() -> None:
    student, teacher = logits(28), logits(29)
    scaled = kl_divergence(student, teacher, 1e4)
    plain = kl_divergence(student, teacher, 1e4, scale_by_t2=False)
    torch.testing.assert_close(scaled, plain * 1e8)
