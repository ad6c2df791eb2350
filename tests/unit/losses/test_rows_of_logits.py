"""Every loss of logits takes (…, C), a mask of the rows that count, and what divides their sum."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from closed_form import wave
from ranking_oracle import value_and_gradient
from torch import Tensor

from rkkd_cli import losses

SHAPE = (3, 4, 7)
ROWS, CLASSES = SHAPE[:-1], SHAPE[-1]
MASK = torch.tensor([[True, False, True, True], [False] * 4, [True, True, False, False]])


class RowLoss(NamedTuple):
    """A loss of s, t and targets, and whether it is a mean of each row's own loss."""

    call: Callable[..., Tensor]
    of_single_rows: bool = True


def with_target(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda s, t, y, **rows: loss(s, t, y, **rows)


def without_target(loss: Callable[..., Tensor], *settings: Any, **named: Any) -> Callable[..., Any]:
    return lambda s, t, _, **rows: loss(s, t, *settings, **named, **rows)


def ranking(**settings: Any) -> Callable[..., Tensor]:
    return without_target(losses.KendallRankingLoss(1.5, **settings))


def at_temperature(s: Tensor, t: Tensor, y: Tensor, **rows: Any) -> Tensor:
    return losses.kl_at_temperature(s, t, 1.0 + y, **rows)


def mlkd(s: Tensor, t: Tensor, y: Tensor, **rows: Any) -> Tensor:
    return torch.stack(losses.mlkd_terms(s, t, 0.5 * s, 2 * t, **rows)).sum()


LOSSES = {
    "kl": RowLoss(without_target(losses.kl_divergence)),
    "kl at T = 100": RowLoss(without_target(losses.kl_divergence, 100.0, False)),
    "kl at a temperature": RowLoss(at_temperature),
    "soft cross-entropy": RowLoss(without_target(losses.soft_cross_entropy, 2.0)),
    "dkd": RowLoss(with_target(losses.dkd_loss)),
    "pld": RowLoss(with_target(losses.plackett_luce_loss)),
    "dist": RowLoss(without_target(losses.dist_loss), of_single_rows=False),
    "instance level": RowLoss(without_target(losses.instance_level_loss, standardize=True)),
    "batch level": RowLoss(without_target(losses.batch_level_loss), of_single_rows=False),
    "class level": RowLoss(without_target(losses.class_level_loss), of_single_rows=False),
    "mlkd": RowLoss(mlkd, of_single_rows=False),
    "ranking": RowLoss(ranking()),
    "ranking, top": RowLoss(ranking(channels="top:3", surrogate="arctan")),
    "ranking, union": RowLoss(ranking(channels="union:3")),
    "ranking, z-scores": RowLoss(ranking(channels="union:3", standardize=True)),
    "ranking, background": RowLoss(ranking(background=False)),
    "ranking images": RowLoss(ranking(over="images"), of_single_rows=False),
    "ranking both": RowLoss(ranking(over="both", standardize=True), of_single_rows=False),
}
EACH = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.arange(math.prod(ROWS)).view(ROWS) % CLASSES
    return wave([*SHAPE], 0.4, 2.0).to(dtype), wave([*SHAPE], 1.9, 3.0).to(dtype), y


def kept(x: Tensor) -> Tensor:
    """The rows that count, picked one by one."""
    places = [(a, b) for a in range(ROWS[0]) for b in range(ROWS[1]) if MASK[a, b]]
    return torch.stack([x[place] for place in places])


def spread(gradient: Tensor) -> Tensor:
    """A gradient of the rows that count, with zeros at the others."""
    full = gradient.new_zeros(SHAPE)
    full[MASK] = gradient
    return full


@EACH
def test_with_a_mask_it_is_the_loss_of_the_rows_that_count(loss: RowLoss) -> None:
    s, t, y = inputs()
    ours = value_and_gradient(lambda x: loss.call(x, t, y, mask=MASK), s)
    value, gradient = value_and_gradient(lambda x: loss.call(x, kept(t), kept(y)), kept(s))
    assert torch.equal(ours[0], value)
    assert torch.equal(ours[1], spread(gradient))


@EACH
def test_without_a_mask_all_rows_count(loss: RowLoss) -> None:
    s, t, y = inputs()
    flat = [x.flatten(0, 1) for x in (s, t)]
    value, gradient = value_and_gradient(lambda x: loss.call(x, flat[1], y.flatten()), flat[0])
    everything = torch.ones(ROWS, dtype=torch.bool)
    for rows in ({}, {"mask": everything}):
        ours = value_and_gradient(lambda x, rows=rows: loss.call(x, t, y, **rows), s)  # type: ignore[misc]
        assert torch.equal(ours[0], value)
        assert torch.equal(ours[1], gradient.view(SHAPE))


@EACH
def test_the_normalizer_divides_the_sum_over_the_rows(loss: RowLoss) -> None:
    s, t, y = inputs()
    rows = int(MASK.sum())
    mean = value_and_gradient(lambda x: loss.call(x, t, y, mask=MASK), s)
    for normalizer in (10, 10.0, torch.tensor(10), torch.tensor(10.0)):
        ours = value_and_gradient(
            lambda x, n=normalizer: loss.call(x, t, y, mask=MASK, normalizer=n),  # type: ignore[misc]
            s,
        )
        torch.testing.assert_close(ours, (mean[0] * rows / 10, mean[1] * rows / 10))
    if loss.of_single_rows:
        each = [
            loss.call(*(x[None] for x in row)) for row in zip(*map(kept, (s, t, y)), strict=True)
        ]
        ours_without_gradient = loss.call(s, t, y, mask=MASK, normalizer=10)
        torch.testing.assert_close(ours_without_gradient, torch.stack(each).sum() / 10)


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_do_not_count_may_hold_anything(
    loss: RowLoss, bad: float, dtype: torch.dtype
) -> None:
    s, t, y = inputs(dtype)
    expected = value_and_gradient(lambda x: loss.call(x, t, y, mask=MASK), s)
    s, t, y = s.clone(), t.clone(), y.clone()
    s[~MASK], t[~MASK], y[~MASK] = bad, bad, -100
    ours = value_and_gradient(lambda x: loss.call(x, t, y, mask=MASK), s)
    assert torch.equal(ours[0], expected[0])
    assert torch.equal(ours[1], expected[1])
    assert not ours[1][~MASK].any()


@EACH
@pytest.mark.parametrize("normalizer", [None, 3, torch.tensor(0)])
def test_without_any_row_value_and_gradient_are_zero(
    loss: RowLoss, normalizer: float | Tensor | None
) -> None:
    nothing = torch.zeros(ROWS, dtype=torch.bool)
    y = torch.full(ROWS, -100)
    s, t = torch.full(SHAPE, math.nan), torch.full(SHAPE, math.inf)
    value, gradient = value_and_gradient(
        lambda x: loss.call(x, t, y, mask=nothing, normalizer=normalizer), s
    )
    assert value.shape == ()
    assert value.item() == 0
    assert torch.equal(gradient, torch.zeros(SHAPE))


@EACH
def test_the_gradient_passes_gradcheck(loss: RowLoss) -> None:
    s, t, y = inputs()

    def call(x: Tensor) -> Tensor:
        return loss.call(x, t, y, mask=MASK, normalizer=torch.tensor(9))

    assert torch.autograd.gradcheck(call, (s.requires_grad_(),))


@EACH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_and_its_gradient_is_half(
    loss: RowLoss, dtype: torch.dtype
) -> None:
    s, t, y = inputs(dtype)
    value, gradient = value_and_gradient(lambda x: loss.call(x, t, y, mask=MASK), s)
    expected, of_float = value_and_gradient(
        lambda x: loss.call(x, t.float(), y, mask=MASK), s.float()
    )
    assert (value.dtype, gradient.dtype) == (torch.float32, dtype)
    assert torch.equal(value, expected)
    torch.testing.assert_close(gradient, of_float.to(dtype), rtol=0.02, atol=1e-3)


def test_tau_b_takes_the_rows_that_count() -> None:
    s, t, _ = inputs()
    s[~MASK] = math.nan
    expected = losses.kendall_tau_b(kept(s), kept(t))
    assert losses.kendall_tau_b(s, t, mask=MASK) == expected
    ours = losses.kendall_tau_b(s, t, mask=MASK, normalizer=10)
    torch.testing.assert_close(ours, expected * MASK.sum() / 10)
    assert losses.kendall_tau_b(s, t, mask=torch.zeros_like(MASK)) == 0


def test_standardised_rows_that_do_not_count_are_zeros_without_a_gradient() -> None:
    s, t, _ = inputs()
    expected = value_and_gradient(
        lambda x: losses.kl_divergence(losses.standardize_logits(x), kept(t)), kept(s)
    )
    s[~MASK] = math.nan
    assert not losses.standardize_logits(s, mask=MASK)[~MASK].any()
    value, gradient = value_and_gradient(
        lambda x: losses.kl_divergence(losses.standardize_logits(x, mask=MASK), t, mask=MASK), s
    )
    assert torch.equal(value, expected[0])
    torch.testing.assert_close(gradient, spread(expected[1]))


def test_masks_and_means_of_teachers_have_the_shape_of_the_rows() -> None:
    _, t, y = inputs()
    flat = t.flatten(0, 1)
    correct = losses.correctly_classified(t, y)
    assert torch.equal(correct.flatten(), losses.correctly_classified(flat, y.flatten()))
    low = losses.low_confidence_images(t)
    assert torch.equal(low.flatten(), losses.low_confidence_images(flat))
    teachers = torch.stack([t, t.flip(0)])
    for mean in (losses.mean_logits, partial(losses.mean_probabilities, temperature=2.0)):
        expected = mean(teachers.flatten(1, 2)).view(SHAPE)
        torch.testing.assert_close(mean(teachers), expected, rtol=0, atol=0)


def test_wrong_masks_and_normalizers_are_refused() -> None:
    s, t, y = inputs()
    for mask in (MASK[0], MASK.float(), MASK[..., None]):
        with pytest.raises(ValueError, match="the mask must be one bool per row"):
            losses.kl_divergence(s, t, mask=mask)
    for normalizer in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match="normalizer must be a finite number greater than 0"):
            losses.kl_divergence(s, t, normalizer=normalizer)
    with pytest.raises(ValueError, match="normalizer must be one number"):
        losses.kl_divergence(s, t, normalizer=torch.ones(3))
    with pytest.raises(ValueError, match=r"one int64 class number per image, \(3, 4\)"):
        losses.dkd_loss(s, t, y.flatten(), mask=MASK)


IN_BLOCKS: dict[str, Callable[..., Tensor]] = {
    "kl": losses.kl_divergence,
    "dkd": losses.dkd_loss,
    "pld": losses.plackett_luce_loss,
    "ranking, union": losses.KendallRankingLoss(1.5, channels="union:3"),
}


@pytest.mark.parametrize("rows_per_block", [1, 5, 100])
@pytest.mark.parametrize("mask", [None, MASK, torch.zeros_like(MASK)])
@pytest.mark.parametrize("name", IN_BLOCKS)
def test_in_blocks_it_is_the_loss_of_all_rows(
    name: str, mask: Tensor | None, rows_per_block: int
) -> None:
    s, t, y = inputs()
    target = y if name in ("dkd", "pld") else None
    blocks = partial(losses.in_blocks, IN_BLOCKS[name], rows_per_block=rows_per_block)

    def ours(x: Tensor, normalizer: float | Tensor | None) -> Tensor:
        return 3 * blocks(x, t, target=target, mask=mask, normalizer=normalizer)

    def expected(x: Tensor, normalizer: float | Tensor | None) -> Tensor:
        return 3 * LOSSES[name].call(x, t, y, mask=mask, normalizer=normalizer)

    for normalizer in (None, 7.0, torch.tensor(7)):
        found, whole = (
            value_and_gradient(partial(one, normalizer=normalizer), s) for one in (ours, expected)
        )
        torch.testing.assert_close(found, whole)


def test_in_blocks_nothing_but_the_gradient_is_kept() -> None:
    s, t, _ = inputs(torch.float16)
    sizes: list[tuple[torch.dtype, int]] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() != s.data_ptr():  # the logits are there anyway
            sizes.append((tensor.dtype, tensor.numel()))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = losses.in_blocks(losses.kl_divergence, s.requires_grad_(), t, rows_per_block=12)
    assert sizes[-1] == (torch.float32, s.numel())
    (gradient,) = torch.autograd.grad(loss, s)
    assert gradient.dtype == torch.float16
    with torch.no_grad():
        assert not losses.in_blocks(losses.kl_divergence, s, t).requires_grad
    with pytest.raises(ValueError, match="rows_per_block must be"):
        losses.in_blocks(losses.kl_divergence, s, t, rows_per_block=0)


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    s, t, _ = inputs()
    total = MASK.sum()
    parts = [
        losses.kl_divergence(a, b, mask=m, normalizer=total)
        for a, b, m in zip(s, t, MASK, strict=True)
    ]
    torch.testing.assert_close(torch.stack(parts).sum(), losses.kl_divergence(s, t, mask=MASK))


@pytest.mark.parametrize("over", ["classes", "images"])
def test_a_second_derivative_is_refused_and_never_counted_as_zero(over: str) -> None:
    student = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 6, dtype=torch.float64)
    for once in (
        losses.kendall_ranking_loss(student, teacher, over=over),
        losses.in_blocks(losses.kl_divergence, student, teacher, rows_per_block=2),
    ):
        loss = losses.kl_divergence(student, teacher) + once
        (gradient,) = torch.autograd.grad(loss, student, create_graph=True)
        expected = torch.autograd.grad(loss, student, retain_graph=True)[0]
        torch.testing.assert_close(gradient, expected)
        with pytest.raises(RuntimeError, match="can be differentiated once"):
            torch.autograd.grad(gradient.square().sum(), student)
