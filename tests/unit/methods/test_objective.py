"""What an arm records, and what it optimises."""

import math

import pytest
import torch
from torch import Tensor

from rkkd_cli.config.experiment import Method, Rank
from rkkd_cli.errors import UserError
from rkkd_cli.methods import build_objective

B, C = 6, 5


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(B, C, generator=generator, dtype=torch.float64).to(dtype)
    teacher = torch.randn(B, C, generator=generator, dtype=torch.float64)
    return student, teacher, torch.tensor([0, 1, 2, 3, 4, 0])


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def naive_terms(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, k: float
) -> dict[str, float]:
    ce = kl = rank = 0.0
    for s, t, label in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        ce -= math.log(softmax(s, 1.0)[label])
        for p, q in zip(softmax(t, temperature), softmax(s, temperature), strict=True):
            kl += temperature**2 * p * math.log(p / q)
        for i in range(C):
            for j in range(i + 1, C):
                agreement = math.tanh(k * (t[i] - t[j])) * math.tanh(k * (s[i] - s[j]))
                rank -= 2 / (C * (C - 1)) * agreement
    return {"ce": ce / B, "kl": kl / B, "rank": rank / B}


@pytest.mark.parametrize(("temperature", "k"), [(1.0, 1.0), (4.0, 0.5), (10.0, 100.0)])
def test_terms_are_the_raw_losses(temperature: float, k: float) -> None:
    objective = build_objective(Method(temperature=temperature), Rank(steepness=k))
    terms = objective.terms(*batch())
    assert list(terms) == ["ce", "kl", "rank"]
    for name, expected in naive_terms(*batch(), temperature, k).items():
        assert terms[name].item() == pytest.approx(expected, rel=1e-9)


def test_weights_do_not_touch_the_terms() -> None:
    light = build_objective(Method(alpha=0.1), Rank(grad=False)).terms(*batch())
    heavy = build_objective(Method(ce_weight=9.0, kl_weight=7.0), Rank(grad=True, weight=5.0))
    for name, term in heavy.terms(*batch()).items():
        assert torch.equal(term, light[name])


@pytest.mark.parametrize(
    ("method", "rank", "weights"),
    [
        (Method(alpha=0.25), Rank(), {"ce": 0.75, "kl": 0.25}),
        (Method(alpha=0.25), Rank(grad=True, weight=3.0), {"ce": 0.75, "kl": 0.25, "rank": 3.0}),
        (Method(alpha=0.25, kl_weight=2.0), Rank(), {"ce": 0.75, "kl": 2.0}),
        (Method(ce_weight=1.0, kl_weight=0.0), Rank(), {"ce": 1.0, "kl": 0.0}),
        (Method(alpha=1.0), Rank(), {"ce": 0.0, "kl": 1.0}),
    ],
)
def test_the_objective_is_the_weighted_sum_of_the_terms(
    method: Method, rank: Rank, weights: dict[str, float]
) -> None:
    objective = build_objective(method, rank)
    terms = naive_terms(*batch(), method.temperature, rank.steepness)
    expected = sum(weight * terms[name] for name, weight in weights.items())
    total = objective.weighted_sum(objective.terms(*batch()))
    assert total.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rank", [Rank(grad=True, weight=2.0), Rank(grad=False, weight=2.0)])
def test_the_ranking_loss_has_a_gradient_only_when_it_is_backpropagated(rank: Rank) -> None:
    student, teacher, labels = batch()
    student.requires_grad_()
    terms = build_objective(Method(), rank).terms(student, teacher, labels)
    assert terms["rank"].requires_grad is rank.grad
    assert terms["ce"].requires_grad
    assert terms["kl"].requires_grad


def test_the_gradient_of_the_control_is_that_of_ce_and_kl_alone() -> None:
    gradients = []
    for rank in (Rank(weight=0.0), Rank(weight=50.0, steepness=1.0)):
        student, teacher, labels = batch()
        student.requires_grad_()
        objective = build_objective(Method(), rank)
        total = objective.weighted_sum(objective.terms(student, teacher, labels))
        gradients.append(torch.autograd.grad(total, student)[0])
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    ("method", "unweighted"), [(Method(alpha=1.0), "ce"), (Method(alpha=0.0), "kl")]
)
def test_a_term_that_weighs_nothing_is_recorded_without_gradient(
    method: Method, unweighted: str
) -> None:
    student, teacher, labels = batch()
    student.requires_grad_()
    terms = build_objective(method, Rank()).terms(student, teacher, labels)
    assert not terms[unweighted].requires_grad
    assert math.isfinite(terms[unweighted].item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_float32_terms(dtype: torch.dtype) -> None:
    student, teacher, labels = batch(dtype)
    terms = build_objective(Method(), Rank(steepness=1.0)).terms(student, teacher.float(), labels)
    exact = naive_terms(student.double(), teacher, labels, 4.0, 1.0)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert term.item() == pytest.approx(exact[name], rel=1e-5)


@pytest.mark.parametrize(
    "rank",
    [Rank(grad=False, weight=1.0), Rank(grad=True, weight=0.0)],
    ids=["logged", "weightless"],
)
def test_an_arm_with_nothing_to_optimise_is_refused(rank: Rank) -> None:
    with pytest.raises(UserError, match="nothing to optimise"):
        build_objective(Method(ce_weight=0.0, kl_weight=0.0), rank)


def test_the_ranking_loss_alone_can_be_optimised() -> None:
    objective = build_objective(Method(ce_weight=0.0, kl_weight=0.0), Rank(grad=True, weight=2.0))
    terms = objective.terms(*batch())
    assert objective.weighted_sum(terms).item() == 2 * terms["rank"].item()


@pytest.mark.parametrize(
    ("method", "rank", "sentence"),
    [
        (Method(name="kdd"), Rank(), "unknown method 'kdd'; did you mean 'kd'?"),
        (Method(), Rank(surrogate="tanhh"), "unknown surrogate 'tanhh'; did you mean 'tanh'?"),
        (Method(), Rank(channels="top:0"), "not 'top:0'"),
    ],
)
def test_unknown_names_are_refused(method: Method, rank: Rank, sentence: str) -> None:
    with pytest.raises(UserError) as refusal:
        build_objective(method, rank)
    assert sentence in str(refusal.value)
