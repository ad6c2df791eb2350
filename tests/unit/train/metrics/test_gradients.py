"""Logit diagnostics against autograd, and what they must not depend on."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rkkd_cli.config.experiment import MethodConfig, RankConfig
from rkkd_cli.losses import kendall_ranking_loss, kl_divergence
from rkkd_cli.losses.live_pairs import live_pairs_per_image
from rkkd_cli.methods import ModelPair, Objective, build_objective
from rkkd_cli.models.zoo.small import cnn2
from rkkd_cli.train.metrics.gradients import GRADIENT_MEANS, diagnose, gradient_columns

PAIR = ModelPair(cnn2(10, 1), cnn2(10, 1), 1, (8, 8), torch.arange(10))


def objective(temperature: float = 4.0, **rank: float | str | bool) -> Objective:
    return build_objective(
        MethodConfig(temperature=temperature), RankConfig.model_validate(rank), PAIR
    )


OBJECTIVES = [
    objective(1.0, steepness=0.5),
    objective(4.0, steepness=100.0),
    objective(10.0, steepness=2.0, channels="bottom:0.4"),
    objective(2.0, steepness=2.0, channels="union:3"),
    objective(2.0, steepness=1.0, surrogate="softsign"),
    objective(2.0, steepness=3.0, standardize=True),
    objective(2.0, steepness=1.0, surrogate="tanh_product", standardize=True, over="both"),
    objective(2.0, steepness=2.0, over="images"),
]


def logits(arms: int, images: int, classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(arms)
    return torch.randn(arms, images, classes, generator=generator, dtype=torch.float64)


def columns(sums: Tensor) -> dict[str, float | None]:
    return gradient_columns(dict(zip(GRADIENT_MEANS, sums.tolist(), strict=True)))


def by_autograd(one: Objective, student: Tensor, teacher: Tensor) -> dict[str, float]:
    """The same numbers, from the gradients of the summed losses as autograd gives them."""
    leaf, images = student.clone().requires_grad_(), len(student)
    losses = (
        kl_divergence(leaf, teacher, one.temperature),
        kendall_ranking_loss(leaf, teacher, *one.ranking.settings),
    )
    kl, rank = (images * torch.autograd.grad(loss, leaf)[0] for loss in losses)
    order = teacher.argsort(dim=1)
    low = order[:, : teacher.shape[1] // 2]
    targets = (teacher / one.temperature).softmax(dim=1)
    return {
        "grad_norm_kl": float(kl.norm()) / math.sqrt(images),
        "grad_norm_rank": float(rank.norm()) / math.sqrt(images),
        "grad_cosine": float((kl * rank).sum() / (kl.norm() * rank.norm())),
        "grad_low_share_kl": float(kl.gather(1, low).abs().sum() / kl.abs().sum()),
        "grad_low_share_rank": float(rank.gather(1, low).abs().sum() / rank.abs().sum()),
        "grad_low_share_teacher": float(
            (targets.gather(1, low).sum(dim=1) * kl.abs().sum(dim=1)).sum() / kl.abs().sum()
        ),
        "grad_live_pairs": live_pairs_per_image(student, teacher, one.ranking.settings)
        .mean()
        .item(),
    }


@pytest.mark.parametrize("classes", [2, 7, 10])
def test_they_are_those_of_autograd(classes: int) -> None:
    # The z-scores of two classes are constants.
    objectives = [o for o in OBJECTIVES if classes > 2 or not o.ranking.settings.standardize]
    students, teacher = logits(len(objectives), 6, classes), logits(1, 6, classes)[0]
    measured = diagnose(objectives, students, teacher)
    for one, student, sums in zip(objectives, students, measured, strict=True):
        assert columns(sums) == pytest.approx(by_autograd(one, student, teacher), rel=1e-9)


@given(arms=st.integers(1, 9), images=st.integers(1, 9), classes=st.integers(2, 12))
def test_no_arm_changes_anothers_numbers(arms: int, images: int, classes: int) -> None:
    students = logits(arms, images, classes).float()
    teacher = logits(1, images, classes)[0].float()
    objectives = (OBJECTIVES * 2)[:arms]
    together = diagnose(objectives, students, teacher)
    for number in range(arms):
        one = slice(number, number + 1)
        assert torch.equal(diagnose(objectives[one], students[one], teacher), together[one])


def test_the_lower_half_is_the_teachers() -> None:
    teacher = torch.tensor([[3.0, 1.0, 2.0, 0.0, 4.0]])
    student = teacher.clone()
    student[0, 3] += 1.0  # the lowest channel alone differs
    shares = columns(diagnose([objective(1.0)], student[None], teacher)[0])
    q, p = student.softmax(dim=1)[0], teacher.softmax(dim=1)[0]
    wanted = (q - p).abs()[[3, 1]].sum() / (q - p).abs().sum()
    assert shares["grad_low_share_kl"] == pytest.approx(float(wanted), rel=1e-5)


def test_a_gradient_in_proportion_to_the_teachers_probabilities_has_their_share() -> None:
    # Classes in pairs with the same probability p; the student has p·(1 + c) and p·(1 − c).
    teacher = (3 * logits(1, 40, 4)[0]).repeat_interleave(2, dim=1)
    c = torch.linspace(0.01, 0.9, 40, dtype=torch.float64)[:, None]
    student = teacher + 4.0 * torch.cat([(1 + c).log(), (1 - c).log()], dim=1).repeat(1, 4)
    shares = columns(diagnose([objective(4.0)], student[None], teacher)[0])
    assert shares["grad_low_share_kl"] == pytest.approx(shares["grad_low_share_teacher"], rel=1e-9)


def test_where_the_student_knows_nothing_a_quarter_is_on_the_low_half_of_a_sure_teacher() -> None:
    teacher = torch.zeros(5, 100, dtype=torch.float64)
    teacher[:, 7] = 500.0
    shares = columns(diagnose([objective(4.0)], torch.zeros_like(teacher)[None], teacher)[0])
    assert shares["grad_low_share_teacher"] == pytest.approx(0.0, abs=1e-9)
    assert shares["grad_low_share_kl"] == pytest.approx(0.25 / 0.99)


def test_what_has_no_gradient_is_left_out() -> None:
    teacher = torch.tensor([[30.0, 20.0, 10.0, 0.0]])
    agreeing = columns(diagnose([objective()], teacher[None].clone(), teacher)[0])
    assert agreeing == {
        "grad_norm_kl": 0.0,
        "grad_norm_rank": 0.0,
        "grad_cosine": None,
        "grad_low_share_kl": None,
        "grad_low_share_rank": None,
        "grad_low_share_teacher": None,
        "grad_live_pairs": 0.0,
    }


def test_restricted_channels_take_all_of_the_rankings_gradient() -> None:
    students, teacher = logits(1, 8, 10), logits(1, 8, 10)[0] * 0.5
    low = columns(diagnose([objective(channels="bottom:0.3", steepness=1.0)], students, teacher)[0])
    top = columns(diagnose([objective(channels="top:0.3", steepness=1.0)], students, teacher)[0])
    assert low["grad_low_share_rank"] == pytest.approx(1.0)
    assert top["grad_low_share_rank"] == pytest.approx(0.0)
