"""What holds for every loss of a student's and a teacher's tensor."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from closed_form import labels, wave
from torch import Tensor

from rkkd_cli import losses


class Row(NamedTuple):
    """A loss with shapes, and whether equal inputs are its zero and its minimum."""

    call: Callable[[Tensor, Tensor], Tensor]
    student: list[int]
    teacher: list[int]
    zero_when_equal: bool = True


def dkd(s: Tensor, t: Tensor) -> Tensor:
    return losses.dkd_loss(s, t, labels(*s.shape))


def mlkd(s: Tensor, t: Tensor) -> Tensor:
    return torch.stack(losses.mlkd_terms(s, t, s, t.flip(0))).sum()


def instance(s: Tensor, t: Tensor) -> Tensor:
    return losses.instance_level_loss(s, t, standardize=True)


def relation(name: str, normalize: bool) -> Callable[[Tensor, Tensor], Tensor]:
    loss = {"distance": losses.rkd_distance_loss, "angle": losses.rkd_angle_loss}[name]
    return lambda s, t: loss(s, t, normalize)


def contrast(s: Tensor, t: Tensor) -> Tensor:
    log_z = torch.tensor(8.0, dtype=torch.float64)
    return losses.contrastive_loss(s, torch.stack([t, t.flip(0), t.roll(1, 0)], 1), log_z, 9)


def ctkd(s: Tensor, t: Tensor) -> Tensor:
    return losses.kl_at_temperature(s, t, torch.tensor([3.0]))


def vid(s: Tensor, t: Tensor) -> Tensor:
    return losses.vid_loss(s, wave([s.shape[1]]), t)


def review(s: Tensor, t: Tensor) -> Tensor:
    return losses.hierarchical_context_loss([s, s[:, :, :1]], [t, t[:, :, :1]])


FLAT, WIDE, MAP, SMALL = [4, 5], [4, 3], [3, 2, 4, 4], [3, 4, 2, 3]
LOSSES = {
    "dkd": Row(dkd, FLAT, FLAT),
    "dist": Row(losses.dist_loss, FLAT, FLAT, False),
    "mlkd": Row(mlkd, FLAT, FLAT, False),
    "instance level": Row(instance, FLAT, FLAT),
    "batch level": Row(losses.batch_level_loss, FLAT, FLAT),
    "class level": Row(losses.class_level_loss, FLAT, FLAT),
    "ctkd": Row(ctkd, FLAT, FLAT),
    "rkd distance": Row(relation("distance", False), FLAT, WIDE),
    "rkd distance, unit": Row(relation("distance", True), FLAT, WIDE),
    "rkd angle": Row(relation("angle", False), FLAT, WIDE),
    "rkd angle, unit": Row(relation("angle", True), FLAT, WIDE),
    "similarity": Row(losses.similarity_preserving_loss, MAP, SMALL),
    "attention": Row(losses.attention_transfer_loss, MAP, SMALL),
    "hint": Row(losses.hint_loss, MAP, MAP),
    "feature kl": Row(losses.feature_kl_loss, MAP, MAP),
    "feature kl, pooled": Row(losses.feature_kl_loss, FLAT, FLAT),
    "vid": Row(vid, MAP, MAP, False),
    "review": Row(review, MAP, MAP),
    "contrast": Row(contrast, FLAT, FLAT, False),
}
EACH = pytest.mark.parametrize("row", LOSSES.values(), ids=LOSSES)
HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


def inputs(row: Row, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return wave(row.student, 0.4, 2.0).to(dtype), wave(row.teacher, 1.9, 3.0).to(dtype)


@EACH
def test_the_gradient_passes_gradcheck(row: Row) -> None:
    student, teacher = inputs(row)
    assert torch.autograd.gradcheck(lambda s: row.call(s, teacher), (student.requires_grad_(),))


@EACH
def test_the_value_is_one_number_and_the_gradient_goes_to_the_student_only(row: Row) -> None:
    student, teacher = (x.requires_grad_() for x in inputs(row))
    value = row.call(student, teacher)
    assert value.shape == ()
    of_student, of_teacher = torch.autograd.grad(value, (student, teacher), allow_unused=True)
    assert of_student is not None
    assert of_student.abs().sum() > 0
    assert of_teacher is None


@EACH
@HALF
def test_half_precision_is_computed_in_float32(row: Row, dtype: torch.dtype) -> None:
    student, teacher = inputs(row, dtype)
    value = row.call(student, teacher)
    assert value.dtype == torch.float32
    assert torch.equal(value, row.call(student.float(), teacher.float()))


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_changes_nothing(row: Row, dtype: torch.dtype) -> None:
    student, teacher = inputs(row, dtype)
    plain = row.call(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = row.call(student, teacher)
    assert cast.dtype == dtype
    assert torch.equal(cast, plain)


@EACH
def test_equal_inputs_are_the_minimum(row: Row) -> None:
    student = inputs(row)[0].requires_grad_()
    value = row.call(student, student.detach())
    (gradient,) = torch.autograd.grad(value, student)
    if row.zero_when_equal:
        assert value.item() == pytest.approx(0, abs=1e-12)
        assert gradient.abs().max().item() == pytest.approx(0, abs=1e-10)
    else:
        assert torch.isfinite(value)


def worst(row: Row, scale: float) -> list[tuple[Tensor, Tensor]]:
    """Inputs at the edges: one image, all alike, no activation, one image without any, ±scale."""
    student, teacher = inputs(row, torch.float32)
    zeros, ones = torch.zeros_like(student), torch.ones_like(student)
    one_dark = torch.cat([zeros[:1], student[1:]])
    twins = torch.cat([student[1:2], student[1:]])
    edges = [zeros, ones, ones * scale, student * scale, student.sign() * scale, one_dark, twins]
    cases = [(s, t) for s in edges for t in (teacher, teacher.sign() * scale, teacher * 0)]
    return cases + [(s[:1], t[:1]) for s, t in cases]


@EACH
def test_value_and_gradient_are_finite_at_the_edges(row: Row) -> None:
    for student, teacher in worst(row, 1e4):
        leaf = student.clone().requires_grad_()
        value = row.call(leaf, teacher)
        (gradient,) = torch.autograd.grad(value, leaf)
        assert torch.isfinite(value), (student, teacher)
        assert torch.isfinite(gradient).all(), (student, teacher)


TWO_CLASSES = ("dkd", "dist", "mlkd", "instance level", "ctkd", "feature kl, pooled")


@pytest.mark.parametrize("name", TWO_CLASSES)
def test_two_classes_are_enough(name: str) -> None:
    student, teacher = wave([3, 2], 0.4).requires_grad_(), wave([3, 2], 1.9)
    value = LOSSES[name].call(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@EACH
def test_what_does_not_fit_is_refused(row: Row) -> None:
    student, teacher = inputs(row)
    for wrong in (teacher[1:], teacher[0]):
        with pytest.raises(ValueError, match="must"):
            row.call(student, wrong)
    with pytest.raises(ValueError, match=r"empty|\(0, "):
        row.call(student[:0], teacher[:0])
    with pytest.raises(ValueError, match="floating-point"):
        row.call(student.long(), teacher)
