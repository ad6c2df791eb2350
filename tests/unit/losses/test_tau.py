"""The exact Kendall τ-b against scipy's."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau
from torch import Tensor

from rkkd_cli.losses import kendall_tau_b
from rkkd_cli.losses.kernels import cpu, torch_blocks
from rkkd_cli.losses.tau import tau_b_per_image


def scipy_tau(student: Tensor, teacher: Tensor) -> float:
    """The mean over the images; an image without an order counts as 0."""
    values = []
    for s, t in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        ordered = len(set(s)) > 1 and len(set(t)) > 1
        values.append(float(kendalltau(s, t, variant="b").statistic) if ordered else 0.0)
    return math.fsum(values) / len(values)


@st.composite
def tied_logits(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    batch, classes = draw(st.integers(1, 4)), draw(st.integers(2, 12))
    value = st.integers(-2, 2)
    rows = st.lists(value, min_size=classes, max_size=classes)
    table = st.lists(rows, min_size=batch, max_size=batch)
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    return torch.tensor(draw(table), dtype=dtype), torch.tensor(draw(table), dtype=dtype)


@settings(max_examples=150)
@given(tied_logits())
def test_it_is_scipys_value_with_any_ties(logits: tuple[Tensor, Tensor]) -> None:
    student, teacher = logits
    tau = kendall_tau_b(student, teacher)
    assert tau.item() == pytest.approx(scipy_tau(student, teacher), abs=1e-6)
    assert -1 <= tau.item() <= 1


@pytest.mark.parametrize("shape", [(1, 2), (5, 30), (2, 700)])
def test_it_is_scipys_value_without_ties(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, *shape, generator=generator)
    tau = kendall_tau_b(student, teacher).item()
    assert tau == pytest.approx(scipy_tau(student, teacher), abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
def test_the_same_order_is_exactly_one_and_the_reverse_exactly_minus_one(classes: int) -> None:
    order = torch.arange(classes, dtype=torch.float32).expand(3, -1)
    assert kendall_tau_b(order * 7 - 1e4, order).item() == 1
    assert kendall_tau_b(-order, order).item() == -1


def test_an_image_whose_classes_are_all_tied_counts_as_zero() -> None:
    order, flat = torch.tensor([[1.0, 2.0, 3.0]]), torch.zeros(1, 3)
    assert kendall_tau_b(flat, order).item() == 0
    assert kendall_tau_b(order, flat).item() == 0
    assert kendall_tau_b(flat, flat).item() == 0
    both = kendall_tau_b(torch.cat([order, flat]), torch.cat([order, order]))
    assert both.item() == 0.5


def test_huge_logits_are_ordered_like_small_ones() -> None:
    huge = torch.tensor([[1e4, -1e4, 0.0, 1e4]])
    small = torch.tensor([[2.0, -2.0, 0.0, 1.0]])
    tau = kendall_tau_b(huge, small).item()
    assert tau == pytest.approx(scipy_tau(huge, small), abs=1e-6)


def test_it_has_no_gradient_and_autocast_does_not_change_it() -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 4, 20, generator=generator)
    tau = kendall_tau_b(student.requires_grad_(), teacher)
    assert not tau.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(kendall_tau_b(student, teacher), tau)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((2, 1), (2, 1)), ((2, 3), (2, 4)), ((3,), (3,)), ((0, 3), (0, 3))],
)
def test_shapes_without_an_order_are_refused(
    student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"class|batch"):
        kendall_tau_b(torch.zeros(student), torch.zeros(teacher))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 3),
    classes=st.one_of(st.integers(2, 40), st.integers(250, 400)),
    spacing=st.sampled_from([0.0, 0.01, 0.5, 9.0]),
)
def test_the_compiled_counts_are_those_of_the_pairs_signs(
    seed: int, batch: int, classes: int, spacing: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    s, t = torch.randn(2, batch, classes, generator=generator)
    if spacing:
        s, t = (torch.round(x / spacing) * spacing for x in (s, t))
    assert cpu.supports(s, t)
    expected = torch_blocks.count_pairs(s.double(), t.double())
    assert torch.equal(cpu.count_pairs(s, t), expected)


@pytest.mark.parametrize("classes", [5, 300])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_logit_that_is_not_finite_leaves_the_other_images_alone(classes: int, bad: float) -> None:
    generator = torch.Generator().manual_seed(0)
    s, t = torch.randn(2, 3, classes, generator=generator)
    expected = tau_b_per_image(s, t)
    s[1, 2] = bad
    tau = tau_b_per_image(s, t)
    assert torch.equal(tau[[0, 2]], expected[[0, 2]])
    assert -1 <= tau[1].item() <= 1
