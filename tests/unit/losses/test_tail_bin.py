"""KL to a teacher's top logits and the mass of the rest, against loops in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rkkd_cli.losses import TopLogits, kl_divergence, tail_bin_kl_divergence, top_logits
from rkkd_cli.losses.tail_bin import completed_logits

SEEDS, TEMPERATURES = st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 4.0, 20.0])


def logits(seed: int, batch: int = 3, classes: int = 7, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, classes, generator=generator, dtype=torch.float64) * scale


def bins(row: list[float], kept: list[int], temperature: float) -> list[float]:
    """The probabilities of the kept classes, and that of all others together, if there are any."""
    powers = [math.exp((value - max(row)) / temperature) for value in row]
    rest = [powers[c] for c in range(len(row)) if c not in kept]
    masses = [powers[c] for c in kept] + ([math.fsum(rest)] if rest else [])
    return [mass / math.fsum(powers) for mass in masses]


def by_loops(student: Tensor, teacher: Tensor, count: int, temperature: float) -> float:
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        kept = sorted(range(len(t)), key=lambda c: -t[c])[:count]
        pairs = zip(bins(t, kept, temperature), bins(s, kept, temperature), strict=True)
        total += sum(p * math.log(p / q) for p, q in pairs)
    return temperature**2 * total / len(student)


@settings(max_examples=80)
@given(SEEDS, st.integers(1, 4), st.integers(2, 9), st.data(), TEMPERATURES)
def test_it_equals_the_loop_and_is_at_most_the_whole_divergence(
    seed: int, batch: int, classes: int, data: st.DataObject, temperature: float
) -> None:
    count = data.draw(st.integers(1, classes))
    student, teacher = logits(seed, batch, classes), logits(seed + 1, batch, classes)
    kept = top_logits(teacher, count, (temperature,))
    loss = tail_bin_kl_divergence(student, kept, temperature).item()
    expected = by_loops(student, teacher, count, temperature)
    assert loss == pytest.approx(expected, rel=1e-9, abs=1e-10)
    whole = kl_divergence(student, teacher, temperature).item()
    assert loss <= whole + 1e-10
    if count >= classes - 1:
        assert loss == pytest.approx(whole, rel=1e-9, abs=1e-10)


@settings(max_examples=40)
@given(SEEDS, st.integers(1, 8), TEMPERATURES)
def test_the_rest_has_the_mass_that_it_had_and_lies_among_its_logits(
    seed: int, count: int, temperature: float
) -> None:
    teacher = logits(seed, 5, 9)
    kept = top_logits(teacher, count, (temperature,))
    rest = kept.rest[temperature]
    others = teacher.sort(dim=1, descending=True).values[:, count:]
    mass = (9 - count) * (rest / temperature).exp()
    torch.testing.assert_close(mass, (others / temperature).exp().sum(dim=1))
    assert (rest >= others.mean(dim=1) - 1e-9).all()
    assert (rest <= others.amax(dim=1) + 1e-9).all()
    assert (others.amax(dim=1) <= kept.logits.amin(dim=1)).all()


def test_the_completed_teacher_keeps_what_is_kept_and_the_students_shape_of_the_rest() -> None:
    student, teacher = logits(1), logits(2)
    kept = top_logits(teacher, 3, (2.0,))
    completed = completed_logits(student, kept, 2.0)
    again = top_logits(completed.scatter(1, kept.indices, kept.logits + 100), 3, (2.0,))
    torch.testing.assert_close(again.rest[2.0], kept.rest[2.0])
    assert torch.equal(completed.gather(1, kept.indices), kept.logits)
    moved = (completed - student).scatter(1, kept.indices, math.nan)
    assert (moved.nan_to_num(-math.inf).amax(1) - moved.nan_to_num(math.inf).amin(1) < 1e-9).all()


def test_the_gradient_by_the_rest_is_about_its_mass_alone() -> None:
    student, teacher, t = logits(3).requires_grad_(), logits(4), 2.0
    kept = top_logits(teacher, 3, (t,))
    (gradient,) = torch.autograd.grad(tail_bin_kl_divergence(student, kept, t), student)
    p, q = ((x.detach() / t).softmax(dim=1) for x in (teacher, student))
    is_rest = torch.ones_like(p, dtype=torch.bool).scatter(1, kept.indices, False)
    ratio = (p * is_rest).sum(1, keepdim=True) / (q * is_rest).sum(1, keepdim=True)
    expected = torch.where(is_rest, q * (1 - ratio), q - p) * t / len(student)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("temperature", [20.0, 65.0, 1e3, 1e6, 1e30])
@pytest.mark.parametrize("count", [1, 10, 199])
def test_float32_is_right_at_large_temperatures(temperature: float, count: int) -> None:
    student, teacher = logits(5, 4, 200, 4.0), logits(6, 4, 200, 4.0)
    exact = by_loops(student, teacher, count, min(temperature, 3e4))
    kept = top_logits(teacher.float(), count, (temperature,))
    loss = tail_bin_kl_divergence(student.float(), kept, temperature)
    assert loss.item() == pytest.approx(exact, rel=5e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 1e4])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_huge_logits_stay_finite(dtype: torch.dtype, temperature: float, count: int) -> None:
    student = torch.tensor([[1e4, -1e4, 0, 7], [-1e4, 1e4, 1e4, 0]], dtype=dtype).requires_grad_()
    teacher = torch.tensor([[-1e4, 1e4, 0, -7], [1e4, -1e4, 1e4, 0]], dtype=dtype)
    kept = top_logits(teacher, count, (temperature,))
    loss = tail_bin_kl_divergence(student, kept, temperature)
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_a_rest_of_hardly_any_mass_keeps_its_digits() -> None:
    """In float32, 1 less the mass of the kept class is 0; that of the rest is about 2e-13."""
    teacher = torch.tensor([[30.0, 0.0, 0.0]], requires_grad=False)
    student = torch.tensor([[30.0, 0.7, 0.7]]).requires_grad_()
    kept = top_logits(teacher, 1, (1.0,))
    (gradient,) = torch.autograd.grad(tail_bin_kl_divergence(student, kept, 1.0), student)
    expected = (math.exp(0.7) - 1) * math.exp(-30)
    assert gradient[0, 1:].tolist() == pytest.approx([expected] * 2, rel=1e-4)


def test_equal_logits_have_no_divergence_at_any_of_several_temperatures() -> None:
    same = logits(7)
    kept = top_logits(same, 2, (1.0, 4.0))
    for temperature in (1.0, 4.0):
        assert tail_bin_kl_divergence(same + 3, kept, temperature).item() == pytest.approx(
            0, abs=1e-12
        )
        scaled = tail_bin_kl_divergence(logits(8), kept, temperature)
        plain = tail_bin_kl_divergence(logits(8), kept, temperature, scale_by_t2=False)
        torch.testing.assert_close(scaled, plain * temperature**2)


@pytest.mark.parametrize("count", [0, 8, -1])
def test_a_count_beyond_the_classes_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="the count must be one of 1 … 7 classes"):
        top_logits(logits(0), count)


@pytest.mark.parametrize("bad", [torch.zeros(7), torch.zeros(2, 3, 7), torch.zeros(0, 7)])
def test_logits_of_another_shape_are_refused(bad: Tensor) -> None:
    with pytest.raises(ValueError, match=r"must be \(batch, classes\)|the batch is empty"):
        top_logits(bad, 2)


@pytest.mark.parametrize("shape", [(3,), (2, 7), (3, 1), (3, 7, 1)])
def test_a_student_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"student logits must be \(batch, classes\)"):
        tail_bin_kl_divergence(torch.zeros(shape), top_logits(logits(0), 2))


def test_temperatures_that_are_not_kept_or_not_positive_are_refused() -> None:
    kept = top_logits(logits(0), 2, (1.0, 4.0))
    with pytest.raises(ValueError, match="the rest is kept at temperature 1, 4, not at 2"):
        tail_bin_kl_divergence(logits(1), kept, 2.0)
    for bad in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="temperature must be"):
            top_logits(logits(0), 2, (bad,))
        with pytest.raises(ValueError, match="temperature must be"):
            tail_bin_kl_divergence(logits(1), kept, bad)


def test_values_of_the_kept_classes_find_their_places() -> None:
    kept = TopLogits(torch.tensor([[2, 0]]), torch.tensor([[5.0, 4.0]]), {})
    assert kept.among_all(kept.logits, 4, others=-math.inf).tolist() == [
        [4, -math.inf, 5, -math.inf]
    ]
    student, teacher = kept.pair(torch.tensor([[[1.0, 2, 3, 4]], [[5, 6, 7, 8]]]))
    assert student.tolist() == [[[3, 1]], [[7, 5]]]
    assert teacher.tolist() == [[[5, 4]], [[5, 4]]]
