"""The ranking loss against a loop over all pairs, and at its edges."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_oracle import PHI, classes_that_take_part, logits, value_and_gradient
from torch import Tensor

from rkkd_cli.losses import SURROGATES, KendallRankingLoss, kendall_ranking_loss
from rkkd_cli.losses.kernels.torch_blocks import pair_blocks

CHANNELS = ("all", "top:0.4", "bottom:0.4", "top:0.01", "bottom:1", "union:0.4", "union:64")
EACH_SURROGATE = pytest.mark.parametrize("surrogate", sorted(SURROGATES))


def loop_loss(
    student: Tensor, teacher: Tensor, k: float, surrogate: str, channels: str = "all"
) -> Tensor:
    """The loss, image by image and pair by pair, in float64; autograd differentiates it."""
    student, teacher = student.double(), teacher.detach().double()
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        chosen = classes_that_take_part(t.tolist(), channels, s.tolist())
        pairs = [(i, j) for i in chosen for j in chosen if i < j]
        for i, j in pairs:
            dt, ds = t[i] - t[j], s[i] - s[j]
            if surrogate == "tanh_product":
                agreement = torch.tanh(k * dt * ds)
            else:
                agreement = PHI[surrogate](k * dt) * PHI[surrogate](k * ds)
            total = total - agreement / len(pairs)
    return total / len(student)


@EACH_SURROGATE
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("steepness", [0.5, 3.0, 100.0])
def test_value_and_gradient_equal_the_loop(surrogate: str, channels: str, steepness: float) -> None:
    student, teacher = logits(0, 3, 7), logits(1, 3, 7)
    ours = value_and_gradient(
        lambda s: kendall_ranking_loss(s, teacher, steepness, surrogate, channels), student
    )
    loop = value_and_gradient(
        lambda s: loop_loss(s, teacher, steepness, surrogate, channels), student
    )
    torch.testing.assert_close(ours, loop, rtol=1e-10, atol=1e-12)


@EACH_SURROGATE
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), classes=st.integers(4, 30), amount=st.integers(2, 9))
def test_a_union_is_divided_by_its_own_pairs(
    surrogate: str, seed: int, classes: int, amount: int
) -> None:
    student, teacher = logits(seed, 4, classes), logits(seed + 1, 4, classes)
    student[0], teacher[1] = teacher[0], -student[1]  # unions of M, and where there is room of 2·M
    channels = f"union:{amount}"
    expected = value_and_gradient(
        lambda s: loop_loss(s, teacher, 3.0, surrogate, channels), student
    )
    for dtype, error in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        loss = KendallRankingLoss(3.0, surrogate, channels)
        value, gradient = value_and_gradient(
            partial(loss, teacher_logits=teacher.to(dtype)), student.to(dtype)
        )
        torch.testing.assert_close(value.double(), expected[0], rtol=0, atol=error)
        torch.testing.assert_close(gradient.double(), expected[1], rtol=0, atol=10 * error)


@EACH_SURROGATE
@pytest.mark.parametrize("shape", [(1, 2), (1, 5), (4, 2)])
def test_one_image_and_two_classes_equal_the_loop(surrogate: str, shape: tuple[int, int]) -> None:
    student, teacher = logits(2, *shape), logits(3, *shape)
    ours = kendall_ranking_loss(student, teacher, 2.0, surrogate)
    torch.testing.assert_close(ours, loop_loss(student, teacher, 2.0, surrogate))


@EACH_SURROGATE
@pytest.mark.parametrize("channels", ["all", "bottom:0.5", "union:3"])
def test_gradient_passes_gradcheck(surrogate: str, channels: str) -> None:
    student, teacher = logits(4, 2, 6).requires_grad_(), logits(5, 2, 6)

    def loss(s: Tensor) -> Tensor:
        return kendall_ranking_loss(s, teacher, 1.5, surrogate, channels)

    assert torch.autograd.gradcheck(loss, (student,))


@EACH_SURROGATE
def test_many_classes_span_several_blocks_without_a_seam(surrogate: str) -> None:
    assert len(list(pair_blocks(2, 400))) > 2
    student, teacher = logits(6, 2, 400), logits(7, 2, 400)

    def all_at_once(s: Tensor) -> Tensor:
        ds = s[:, :, None] - s[:, None, :]
        dt = teacher[:, :, None] - teacher[:, None, :]
        if surrogate == "tanh_product":
            agreement = torch.tanh(2 * dt * ds)
        else:
            agreement = PHI[surrogate](2 * dt) * PHI[surrogate](2 * ds)
        return -agreement.sum() / (400 * 399) / 2

    ours = value_and_gradient(lambda s: kendall_ranking_loss(s, teacher, 2.0, surrogate), student)
    torch.testing.assert_close(
        ours, value_and_gradient(all_at_once, student), rtol=1e-9, atol=1e-12
    )


@EACH_SURROGATE
@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 4),
    classes=st.integers(2, 9),
    spacing=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_ties_symmetry_and_range_hold_for_any_logits(
    surrogate: str, seed: int, batch: int, classes: int, spacing: float
) -> None:
    student, teacher = logits(seed, batch, classes), logits(seed + 1, batch, classes)
    if spacing:  # a coarse grid makes ties
        student, teacher = (torch.round(x / spacing) * spacing for x in (student, teacher))
    loss = kendall_ranking_loss(student, teacher, 3.0, surrogate)
    torch.testing.assert_close(loss, loop_loss(student, teacher, 3.0, surrogate))
    assert -1 <= loss.item() <= 1
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    permuted = kendall_ranking_loss(student[:, order], teacher[:, order], 3.0, surrogate)
    torch.testing.assert_close(permuted, loss)
    torch.testing.assert_close(kendall_ranking_loss(student, -teacher, 3.0, surrogate), -loss)
    torch.testing.assert_close(kendall_ranking_loss(teacher, student, 3.0, surrogate), loss)


@pytest.mark.parametrize("surrogate", ["tanh", "tanh_product"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_clear_order_gives_minus_one_and_its_reverse_one_whatever_the_sizes(
    surrogate: str, dtype: torch.dtype
) -> None:
    for batch in (1, 3, 7, 64):
        for classes in (2, 3, 10, 29, 100):
            order = torch.arange(classes, dtype=dtype).expand(batch, -1)
            same = kendall_ranking_loss(order * 3, order, surrogate=surrogate).item()
            reversed_ = kendall_ranking_loss(-order, order, surrogate=surrogate).item()
            assert (same, reversed_) == pytest.approx((-1, 1), abs=1e-6)
            assert -1 <= same <= reversed_ <= 1, (batch, classes)


@EACH_SURROGATE
def test_equal_logits_give_zero(surrogate: str) -> None:
    flat, teacher = torch.zeros(2, 5), logits(8, 2, 5, torch.float32)
    assert kendall_ranking_loss(flat, teacher, surrogate=surrogate).item() == 0
    assert kendall_ranking_loss(teacher, flat, surrogate=surrogate).item() == 0
    value, gradient = value_and_gradient(
        lambda s: kendall_ranking_loss(s, flat, surrogate=surrogate), flat
    )
    assert value.item() == 0
    assert not gradient.any()


@EACH_SURROGATE
def test_a_step_against_the_gradient_turns_a_tie_into_the_teachers_order(surrogate: str) -> None:
    teacher = torch.tensor([[3.0, 1.0, 2.0]])
    _, gradient = value_and_gradient(
        lambda s: kendall_ranking_loss(s, teacher, 1.0, surrogate), torch.zeros(1, 3)
    )
    assert (-gradient).argsort().tolist() == teacher.argsort().tolist()


@EACH_SURROGATE
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_huge_logits_stay_finite(surrogate: str, dtype: torch.dtype) -> None:
    huge = torch.tensor([[1e4, -1e4, 0.0, 1e4], [0.0, -1e4, 1e4, 1.0]], dtype=dtype)
    value, gradient = value_and_gradient(
        lambda s: kendall_ranking_loss(s, huge, surrogate=surrogate), huge
    )
    assert torch.isfinite(gradient).all()
    expected = loop_loss(huge, huge, 100.0, surrogate).item()
    assert value.item() == pytest.approx(expected, abs=1e-5)


@EACH_SURROGATE
def test_bfloat16_logits_are_computed_in_float32(surrogate: str) -> None:
    student, teacher = logits(9, 3, 6, torch.bfloat16), logits(10, 3, 6, torch.bfloat16)
    value, gradient = value_and_gradient(
        lambda s: kendall_ranking_loss(s, teacher, 2.0, surrogate), student
    )
    expected, expected_gradient = value_and_gradient(
        lambda s: kendall_ranking_loss(s, teacher.float(), 2.0, surrogate), student.float()
    )
    assert (value.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(value, expected)
    assert torch.equal(gradient, expected_gradient.bfloat16())


@EACH_SURROGATE
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_autocast_changes_nothing(surrogate: str, dtype: torch.dtype) -> None:
    student, teacher = logits(11, 3, 6, dtype), logits(12, 3, 6, dtype)

    def loss(s: Tensor) -> Tensor:
        return kendall_ranking_loss(s, teacher, 2.0, surrogate, "top:0.5")

    plain = value_and_gradient(loss, student)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = value_and_gradient(loss, student)
    assert torch.equal(plain[0], cast[0])
    assert torch.equal(plain[1], cast[1])


def test_gradient_goes_to_the_student_only() -> None:
    student, teacher = logits(13, 2, 5).requires_grad_(), logits(14, 2, 5).requires_grad_()
    loss = kendall_ranking_loss(student, teacher, 2.0)
    grads = torch.autograd.grad(loss, (student, teacher), allow_unused=True)
    assert grads[0] is not None
    assert grads[1] is None


def test_there_is_no_gradient_where_none_is_asked_for() -> None:
    student, teacher = logits(15, 2, 5), logits(16, 2, 5).requires_grad_()
    assert not kendall_ranking_loss(student, teacher).requires_grad
    with torch.no_grad():
        assert not kendall_ranking_loss(student.requires_grad_(), teacher).requires_grad


def test_memory_kept_for_the_backward_pass_grows_with_the_logits_not_with_the_pairs() -> None:
    batch, classes = 4, 50
    student, teacher = logits(17, batch, classes).requires_grad_(), logits(18, batch, classes)
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = kendall_ranking_loss(student, teacher)
    assert loss.requires_grad
    assert sizes
    assert sum(sizes) <= 2 * batch * classes


@EACH_SURROGATE
@pytest.mark.parametrize("channels", ["all", "bottom:0.4", "union:0.4"])
def test_the_module_is_the_function(surrogate: str, channels: str) -> None:
    student, teacher = logits(19, 2, 10), logits(20, 2, 10)
    module = KendallRankingLoss(5.0, surrogate, channels)
    expected = kendall_ranking_loss(student, teacher, 5.0, surrogate, channels)
    assert torch.equal(module(student, teacher), expected)
    assert not list(module.parameters())


def test_the_modules_repr_is_the_call_that_makes_it() -> None:
    text = (
        "KendallRankingLoss(steepness=50.0, surrogate='arctan', channels='bottom:0.1', "
        "standardize=True, over='classes', background=True)"
    )
    assert repr(KendallRankingLoss(50.0, "arctan", "bottom:0.1", standardize=True)) == text


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((2, 1), (2, 1)), ((2, 3), (2, 4)), ((2, 3), (3, 3)), ((3,), (3,)), ((0, 3), (0, 3))],
)
def test_shapes_without_an_order_are_refused(
    student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"class|batch"):
        kendall_ranking_loss(torch.zeros(student), torch.zeros(teacher))


@pytest.mark.parametrize("steepness", [0.0, -1.0, math.nan, math.inf])
def test_a_steepness_that_is_not_positive_is_refused(steepness: float) -> None:
    with pytest.raises(ValueError, match="steepness must be"):
        kendall_ranking_loss(torch.zeros(1, 3), torch.zeros(1, 3), steepness)
    with pytest.raises(ValueError, match="steepness must be"):
        KendallRankingLoss(steepness)


def test_an_unknown_surrogate_names_the_nearest_one() -> None:
    with pytest.raises(ValueError, match="did you mean 'softsign'"):
        kendall_ranking_loss(torch.zeros(1, 3), torch.zeros(1, 3), surrogate="softsing")
    with pytest.raises(ValueError, match="did you mean 'softsign'"):
        KendallRankingLoss(surrogate="softsing")


def test_whole_numbers_are_no_logits() -> None:
    with pytest.raises(ValueError, match="floating-point"):
        kendall_ranking_loss(torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.int64))
