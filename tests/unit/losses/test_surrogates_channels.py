"""The parts of the ranking loss: surrogates, channel choices, blocks of pairs."""

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rkkd_cli.losses.channels import parse_channels, select_channels
from rkkd_cli.losses.kernels.torch_blocks import pair_blocks
from rkkd_cli.losses.surrogates import SURROGATES

FORMULAS: dict[str, Callable[[float, float, float], float]] = {
    "tanh": lambda dt, ds, k: math.tanh(k * dt) * math.tanh(k * ds),
    "softsign": lambda dt, ds, k: k * dt / (1 + abs(k * dt)) * k * ds / (1 + abs(k * ds)),
    "arctan": lambda dt, ds, k: (2 / math.pi) ** 2 * math.atan(k * dt) * math.atan(k * ds),
    "tanh_product": lambda dt, ds, k: math.tanh(k * dt * ds),
}
EACH_SURROGATE = pytest.mark.parametrize("name", sorted(SURROGATES))
DIFFERENCES = [(dt, ds) for dt in (-3.0, -0.2, 0.0, 1.0) for ds in (-1.5, 0.0, 0.1, 2.0)]


def test_every_surrogate_has_a_formula_here() -> None:
    assert SURROGATES.keys() == FORMULAS.keys()


def pairs(values: list[tuple[float, float]]) -> tuple[Tensor, Tensor]:
    dt, ds = torch.tensor(values, dtype=torch.float64).unbind(1)
    return dt, ds


@EACH_SURROGATE
@pytest.mark.parametrize("k", [0.1, 1.0, 20.0])
def test_agreement_is_the_formula(name: str, k: float) -> None:
    agreement, _ = SURROGATES[name](*pairs(DIFFERENCES), k)
    expected = [FORMULAS[name](dt, ds, k) for dt, ds in DIFFERENCES]
    assert agreement.tolist() == pytest.approx(expected, abs=1e-12)
    assert agreement.abs().max() <= 1


@EACH_SURROGATE
@pytest.mark.parametrize("k", [0.1, 1.0, 20.0])
def test_slope_is_the_derivative_by_the_students_difference(name: str, k: float) -> None:
    dt, ds = pairs(DIFFERENCES)
    leaf = ds.clone().requires_grad_()
    agreement, slope = SURROGATES[name](dt, leaf, k)
    (expected,) = torch.autograd.grad(agreement.sum(), leaf)
    # softsign's |x| has no derivative at 0 for autograd; there the slope is φ(kΔt)·k.
    smooth = ds != 0 if name == "softsign" else torch.ones_like(ds, dtype=torch.bool)
    torch.testing.assert_close(slope[smooth], expected[smooth])
    step = 1e-7
    numeric = [
        (FORMULAS[name](a, b + step, k) - FORMULAS[name](a, b - step, k)) / (2 * step)
        for a, b in DIFFERENCES
    ]
    assert slope.tolist() == pytest.approx(numeric, rel=1e-4, abs=1e-4)


@EACH_SURROGATE
def test_exchanging_the_two_classes_negates_the_slope_and_keeps_the_agreement(name: str) -> None:
    dt, ds = pairs(DIFFERENCES)
    agreement, slope = SURROGATES[name](dt, ds, 2.0)
    swapped_agreement, swapped_slope = SURROGATES[name](-dt, -ds, 2.0)
    assert torch.equal(agreement, swapped_agreement)
    assert torch.equal(slope, -swapped_slope)


@settings(max_examples=200)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 500))
def test_blocks_hold_every_pair_exactly_once(batch: int, channels: int, limit: int) -> None:
    seen: Counter[tuple[int, int]] = Counter()
    for block in pair_blocks(batch, channels, limit):
        assert block.size == block.stop - block.start > 0
        assert block.size == 1 or batch * block.size * (channels - block.start) <= limit
        for row in range(block.start, block.stop):
            seen.update((row, column) for column in range(row + 1, channels))
    all_pairs = [(i, j) for i in range(channels) for j in range(i + 1, channels)]
    assert seen == Counter(all_pairs)


def test_blocks_cover_the_classes_without_a_gap() -> None:
    blocks = list(pair_blocks(64, 1000))
    assert blocks[0].start == 0
    assert blocks[-1].stop == 1000
    assert all(a.stop == b.start for a, b in pairwise(blocks))


@pytest.mark.parametrize(
    ("text", "classes", "count"),
    [
        ("all", 7, 7),
        ("top:1", 7, 7),
        ("top:0.1", 100, 10),
        ("bottom:0.1", 10, 2),
        ("bottom:0.001", 1000, 2),
        ("top:0.3", 10, 3),
        ("top:64", 100, 64),
        ("bottom:2", 100, 2),
        ("top:64", 10, 10),
        ("union:64", 100, 64),
        ("union:0.1", 100, 10),
    ],
)
def test_a_share_is_rounded_and_a_number_is_itself_from_two_classes_up_to_all(
    text: str, classes: int, count: int
) -> None:
    assert parse_channels(text).count(classes) == count


@pytest.mark.parametrize(
    "text",
    ["", "ALL", "top", "top:", "top:0", "top:-0.1", "bottom:1.1", "bottom:nan", "top:inf",
     "middle:0.1", "top:0.1:0.2", "top:ten", "all:0.5", "top:2.0", "top:-3", "top:1e2", "all:3",
     "union", "union:0", "union:1.5"],
)  # fmt: skip
def test_an_invalid_share_or_number_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"channels must be all, top:SHARE or bottom:SHARE"):
        parse_channels(text)


@pytest.mark.parametrize(("text", "largest"), [("top:0.4", True), ("bottom:0.4", False)])
def test_the_teacher_chooses_for_each_image(text: str, largest: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 10, generator=generator)
    chosen_student, chosen_teacher, counts = select_channels(student, teacher, text)
    assert counts is None
    assert chosen_student.shape == chosen_teacher.shape == (6, 4)
    for image in range(6):
        order = sorted(range(10), key=lambda c: float(teacher[image, c]), reverse=largest)
        both = zip(chosen_teacher[image].tolist(), chosen_student[image].tolist(), strict=True)
        assert sorted(both) == sorted(
            (float(teacher[image, c]), float(student[image, c])) for c in order[:4]
        )


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 12), amount=st.integers(2, 14),
       spacing=st.sampled_from([0.0, 1.0]))  # fmt: skip
def test_a_union_has_the_tops_of_both_once_and_says_how_many(
    seed: int, classes: int, amount: int, spacing: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 5, classes, generator=generator)
    if spacing:  # ties
        student, teacher = student.round(), teacher.round()
    found = select_channels(student, teacher, f"union:{amount}")
    if amount >= classes:
        assert found == (student, teacher, None)
        return
    assert found.counts is not None
    for image, count in enumerate(found.counts.tolist()):
        sides = [x[image].topk(amount).indices.tolist() for x in (student, teacher)]
        union = sorted({*sides[0], *sides[1]})
        assert count == len(union)
        assert amount <= count <= min(classes, 2 * amount)
        assert torch.equal(found.student[image, :count], student[image, union])
        assert torch.equal(found.teacher[image, :count], teacher[image, union])


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), classes=st.integers(500, 1100), amount=st.integers(2, 4),
       largest=st.booleans(), order=st.sampled_from(["any", "rising", "falling", "ties"]),
)  # fmt: skip
def test_of_many_classes_the_same_are_chosen(
    seed: int, classes: int, amount: int, largest: bool, order: str
) -> None:
    teacher = torch.randn(3, classes, generator=torch.Generator().manual_seed(seed))
    if order == "ties":
        teacher = teacher.round()
    elif order != "any":
        teacher = teacher.sort(dim=1, descending=order == "falling").values
    numbers = torch.arange(classes).expand(3, -1)
    text = f"{'top' if largest else 'bottom'}:{amount}"
    chosen, values, _ = select_channels(numbers, teacher, text)
    assert torch.equal(values, teacher.topk(amount, dim=1, largest=largest).values)
    assert torch.equal(values, teacher.gather(1, chosen))
    assert all(len(set(row)) == amount for row in chosen.tolist())


def test_a_logit_that_is_not_a_number_is_among_the_top_of_many() -> None:
    teacher = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    teacher[1, 789] = math.nan
    assert select_channels(teacher, teacher, "top:2").teacher.isnan().any(dim=1).tolist() == [0, 1]


def test_all_channels_come_back_as_they_are() -> None:
    student, teacher = torch.randn(2, 3, 5)
    same = select_channels(student, teacher, "all")
    assert same[0] is student
    assert same[1] is teacher
