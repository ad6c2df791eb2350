"""What holds for every loss of a student's and a teacher's tensor."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from closed_form import labels, wave
from torch import Tensor

from rkkd_cli import losses


class LossCase(NamedTuple):
    """A loss with the shapes of its inputs, and whether it is 0 and minimal for equal inputs."""

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


def rkd(name: str, normalize: bool) -> Callable[[Tensor, Tensor], Tensor]:
    loss = {"distance": losses.rkd_distance_loss, "angle": losses.rkd_angle_loss}[name]
    return lambda s, t: loss(s, t, normalize)


def contrast(s: Tensor, t: Tensor) -> Tensor:
    log_z = torch.tensor(8.0, dtype=torch.float64)
    return losses.contrastive_loss(s, torch.stack([t, t.flip(0), t.roll(1, 0)], 1), log_z, 9)


def pld(s: Tensor, t: Tensor) -> Tensor:
    return losses.plackett_luce_loss(s, t, torch.arange(len(s)) % s.shape[1])


def ctkd(s: Tensor, t: Tensor) -> Tensor:
    return losses.kl_at_temperature(s, t, torch.tensor([3.0]))


def tail_bin(s: Tensor, t: Tensor) -> Tensor:
    return losses.tail_bin_kl_divergence(s, losses.top_logits(t, 2))


def vid(s: Tensor, t: Tensor) -> Tensor:
    return losses.vid_loss(s, wave([s.shape[1]]), t)


def review(s: Tensor, t: Tensor) -> Tensor:
    return losses.hierarchical_context_loss([s, s[:, :, :1]], [t, t[:, :, :1]])


FLAT, WIDE, MAP, SMALL = [4, 5], [4, 3], [3, 2, 4, 4], [3, 4, 2, 3]
LOSSES = {
    "dkd": LossCase(dkd, FLAT, FLAT),
    "dist": LossCase(losses.dist_loss, FLAT, FLAT, False),
    "mlkd": LossCase(mlkd, FLAT, FLAT, False),
    "instance level": LossCase(instance, FLAT, FLAT),
    "batch level": LossCase(losses.batch_level_loss, FLAT, FLAT),
    "class level": LossCase(losses.class_level_loss, FLAT, FLAT),
    "pld": LossCase(pld, FLAT, FLAT, False),
    "ctkd": LossCase(ctkd, FLAT, FLAT),
    "tail bin": LossCase(tail_bin, FLAT, FLAT),
    "rkd distance": LossCase(rkd("distance", False), FLAT, WIDE),
    "rkd distance, unit": LossCase(rkd("distance", True), FLAT, WIDE),
    "rkd angle": LossCase(rkd("angle", False), FLAT, WIDE),
    "rkd angle, unit": LossCase(rkd("angle", True), FLAT, WIDE),
    "darkrank": LossCase(losses.darkrank_loss, FLAT, WIDE, False),
    "similarity": LossCase(losses.similarity_preserving_loss, MAP, SMALL),
    "attention": LossCase(losses.attention_transfer_loss, MAP, SMALL),
    "hint": LossCase(losses.hint_loss, MAP, MAP),
    "feature kl": LossCase(losses.feature_kl_loss, MAP, MAP),
    "feature kl, pooled": LossCase(losses.feature_kl_loss, FLAT, FLAT),
    "vid": LossCase(vid, MAP, MAP, False),
    "review": LossCase(review, MAP, MAP),
    "contrast": LossCase(contrast, FLAT, FLAT, False),
}
EACH = pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES)
HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


def inputs(case: LossCase, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return wave(case.student, 0.4, 2.0).to(dtype), wave(case.teacher, 1.9, 3.0).to(dtype)


@EACH
def test_the_gradient_passes_gradcheck(case: LossCase) -> None:
    student, teacher = inputs(case)
    assert torch.autograd.gradcheck(lambda s: case.call(s, teacher), (student.requires_grad_(),))


@EACH
def test_the_value_is_one_number_and_the_gradient_goes_to_the_student_only(case: LossCase) -> None:
    student, teacher = (x.requires_grad_() for x in inputs(case))
    value = case.call(student, teacher)
    assert value.shape == ()
    of_student, of_teacher = torch.autograd.grad(value, (student, teacher), allow_unused=True)
    assert of_student is not None
    assert of_student.abs().sum() > 0
    assert of_teacher is None


@EACH
@HALF
def test_half_precision_is_computed_in_float32(case: LossCase, dtype: torch.dtype) -> None:
    student, teacher = inputs(case, dtype)
    value = case.call(student, teacher)
    assert value.dtype == torch.float32
    assert torch.equal(value, case.call(student.float(), teacher.float()))


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_changes_nothing(case: LossCase, dtype: torch.dtype) -> None:
    student, teacher = inputs(case, dtype)
    plain = case.call(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = case.call(student, teacher)
    assert cast.dtype == dtype
    assert torch.equal(cast, plain)


@EACH
def test_equal_inputs_are_the_minimum(case: LossCase) -> None:
    student = inputs(case)[0].requires_grad_()
    value = case.call(student, student.detach())
    (gradient,) = torch.autograd.grad(value, student)
    if case.zero_when_equal:
        assert value.item() == pytest.approx(0, abs=1e-12)
        assert gradient.abs().max().item() == pytest.approx(0, abs=1e-10)
    else:
        assert torch.isfinite(value)


def edge_cases(case: LossCase, scale: float) -> list[tuple[Tensor, Tensor]]:
    """One image, equal entries, no activation, one image without activation, twins, ±scale."""
    student, teacher = inputs(case, torch.float32)
    zeros, ones = torch.zeros_like(student), torch.ones_like(student)
    one_dark = torch.cat([zeros[:1], student[1:]])
    twins = torch.cat([student[1:2], student[1:]])
    edges = [zeros, ones, ones * scale, student * scale, student.sign() * scale, one_dark, twins]
    pairs = [(s, t) for s in edges for t in (teacher, teacher.sign() * scale, teacher * 0)]
    return pairs + [(s[:1], t[:1]) for s, t in pairs]


@EACH
def test_value_and_gradient_are_finite_at_the_edges(case: LossCase) -> None:
    for student, teacher in edge_cases(case, 1e4):
        leaf = student.clone().requires_grad_()
        value = case.call(leaf, teacher)
        (gradient,) = torch.autograd.grad(value, leaf)
        assert torch.isfinite(value), (student, teacher)
        assert torch.isfinite(gradient).all(), (student, teacher)


TWO_CLASSES = ("dkd", "dist", "mlkd", "instance level", "pld", "ctkd", "feature kl, pooled")


@pytest.mark.parametrize("name", TWO_CLASSES)
def test_two_classes_are_enough(name: str) -> None:
    student, teacher = wave([3, 2], 0.4).requires_grad_(), wave([3, 2], 1.9)
    value = LOSSES[name].call(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@EACH
def test_wrong_shapes_and_dtypes_are_refused(case: LossCase) -> None:
    student, teacher = inputs(case)
    for wrong in (teacher[1:], teacher[0]):
        with pytest.raises(ValueError, match="must"):
            case.call(student, wrong)
    with pytest.raises(ValueError, match=r"empty|\(0, "):
        case.call(student[:0], teacher[:0])
    with pytest.raises(ValueError, match="floating-point"):
        case.call(student.long(), teacher)
