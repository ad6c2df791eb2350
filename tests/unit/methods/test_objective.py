"""What an arm optimises."""

import math

import pytest
import torch
from torch import Tensor

from rkkd_cli.config.experiment import MethodConfig, RankConfig
from rkkd_cli.data.targets import Targets
from rkkd_cli.errors import UserError
from rkkd_cli.methods import DistillInputs, ModelPair, build_objective
from rkkd_cli.methods.inputs import logits_only

B, C = 6, 5


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(B, C, generator=generator, dtype=torch.float64).to(dtype)
    teacher = torch.randn(B, C, generator=generator, dtype=torch.float64)
    return student, teacher, torch.tensor([0, 1, 2, 3, 4, 0])


def inputs(dtype: torch.dtype = torch.float64) -> DistillInputs:
    student, teacher, labels = batch(dtype)
    return DistillInputs(
        logits_only(student), logits_only(teacher), Targets(labels), torch.arange(B)
    )


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


@pytest.mark.parametrize(
    ("method", "rank", "weights"),
    [
        (MethodConfig(alpha=0.25), RankConfig(), {"ce": 0.75, "kl": 0.25}),
        (
            MethodConfig(alpha=0.25),
            RankConfig(grad=True, weight=3.0),
            {"ce": 0.75, "kl": 0.25, "rank": 3.0},
        ),
        (MethodConfig(alpha=0.25, kl_weight=2.0), RankConfig(), {"ce": 0.75, "kl": 2.0}),
        (MethodConfig(ce_weight=1.0, kl_weight=0.0), RankConfig(), {"ce": 1.0, "kl": 0.0}),
        (MethodConfig(alpha=1.0), RankConfig(), {"ce": 0.0, "kl": 1.0}),
    ],
)
def test_the_objective_is_the_weighted_sum_of_the_terms(
    method: MethodConfig, rank: RankConfig, weights: dict[str, float], digits_pair: ModelPair
) -> None:
    objective = build_objective(method, rank, digits_pair)
    terms = naive_terms(*batch(), method.temperature, rank.steepness)
    expected = sum(weight * terms[name] for name, weight in weights.items())
    total = objective.loss(inputs()).total
    assert total.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("method", "rank", "text"),
    [
        (MethodConfig(), RankConfig(), "0.1·ce + 0.9·kl"),
        (MethodConfig(), RankConfig(grad=True), "0.1·ce + 0.9·kl + 0.9·rank"),
        (MethodConfig(temperature=1), RankConfig(steepness=5), "0.1·ce + 0.9·kl, T = 1"),
        (
            MethodConfig(),
            RankConfig(grad=True, steepness=1, channels="top:0.5"),
            "0.1·ce + 0.9·kl + 0.9·rank, k = 1, channels top:0.5",
        ),
        (MethodConfig(name="ce"), RankConfig(), "ce"),
        (MethodConfig(name="ce"), RankConfig(grad=True, weight=1.0), "ce + rank"),
        (MethodConfig(name="soft_ce"), RankConfig(), "0.1·ce + 0.05625·kl"),
        (MethodConfig(standardize_logits=True), RankConfig(), "0.1·ce + 0.9·kl_standardized"),
        (
            MethodConfig(name="dkd"),
            RankConfig(),
            "ce + 0.5·tckd + 4·nckd (epoch 1: ce + 0.05·tckd + 0.4·nckd)",
        ),
    ],
)
def test_the_objective_as_text_is_that_of_the_last_epoch(
    method: MethodConfig, rank: RankConfig, text: str, digits_pair: ModelPair
) -> None:
    assert build_objective(method, rank, digits_pair).text(epochs=10) == text


def gradient_of(pair: ModelPair, rank: RankConfig) -> Tensor:
    outputs = inputs()
    student = outputs.student.logits.requires_grad_()
    loss = build_objective(MethodConfig(), rank, pair).loss(outputs).total
    return torch.autograd.grad(loss, student)[0]


def test_the_ranking_loss_has_a_gradient_only_when_it_is_backpropagated(
    digits_pair: ModelPair,
) -> None:
    control = gradient_of(digits_pair, RankConfig(steepness=1.0, weight=2.0))
    ranked = gradient_of(digits_pair, RankConfig(steepness=1.0, weight=2.0, grad=True))
    student, teacher, _ = batch()
    student.requires_grad_()
    alone = build_objective(MethodConfig(), RankConfig(steepness=1.0), digits_pair).ranking(
        student, teacher
    )
    torch.testing.assert_close(ranked - control, 2 * torch.autograd.grad(alone, student)[0])


def test_the_gradient_of_the_control_is_that_of_ce_and_kl_alone(digits_pair: ModelPair) -> None:
    gradients = [
        gradient_of(digits_pair, rank) for rank in (RankConfig(weight=0.0), RankConfig(weight=50.0))
    ]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_a_float32_loss(
    dtype: torch.dtype, digits_pair: ModelPair
) -> None:
    student, teacher, labels = batch(dtype)
    outputs = DistillInputs(
        logits_only(student), logits_only(teacher.float()), Targets(labels), torch.arange(B)
    )
    loss = build_objective(MethodConfig(), RankConfig(), digits_pair).loss(outputs).total
    exact = naive_terms(student.double(), teacher, labels, 4.0, 1.0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.1 * exact["ce"] + 0.9 * exact["kl"], rel=1e-5)


@pytest.mark.parametrize(
    "rank",
    [RankConfig(grad=False, weight=1.0), RankConfig(grad=True, weight=0.0)],
    ids=["logged", "weightless"],
)
def test_an_arm_with_nothing_to_optimise_is_refused(
    rank: RankConfig, digits_pair: ModelPair
) -> None:
    with pytest.raises(UserError, match="nothing to optimise"):
        build_objective(MethodConfig(ce_weight=0.0, kl_weight=0.0), rank, digits_pair)


def test_the_ranking_loss_alone_can_be_optimised(digits_pair: ModelPair) -> None:
    method, rank = MethodConfig(ce_weight=0.0, kl_weight=0.0), RankConfig(grad=True, weight=2.0)
    objective = build_objective(method, rank, digits_pair)
    student, teacher, _ = batch()
    assert objective.loss(inputs()).total == 2 * objective.ranking(student, teacher)


@pytest.mark.parametrize(
    ("method", "rank", "sentence"),
    [
        (MethodConfig(name="kdd"), RankConfig(), "unknown method 'kdd'; did you mean 'kd'?"),
        (
            MethodConfig(),
            RankConfig(surrogate="tanhh"),
            "unknown surrogate 'tanhh'; did you mean 'tanh'?",
        ),
        (MethodConfig(), RankConfig(channels="top:0"), "not 'top:0'"),
    ],
)
def test_unknown_names_are_refused(
    method: MethodConfig, rank: RankConfig, sentence: str, digits_pair: ModelPair
) -> None:
    with pytest.raises(UserError) as refusal:
        build_objective(method, rank, digits_pair)
    assert sentence in str(refusal.value)
