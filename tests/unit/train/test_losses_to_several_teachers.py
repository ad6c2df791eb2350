"""The losses to several teachers, and what is recorded of them, against equations in float64."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.config.experiment import MethodConfig, RankConfig
from rkkd_cli.config.teachers import target_columns
from rkkd_cli.data.stream import Batch
from rkkd_cli.data.targets import Targets
from rkkd_cli.losses import kendall_ranking_loss, kendall_tau_b, kl_divergence
from rkkd_cli.methods import ModelPair, Objective, build_objective
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.models import build_model
from rkkd_cli.tasks import CLASSIFICATION_TASK
from rkkd_cli.train.metrics.batch import mean_names, measure
from rkkd_cli.train.metrics.gradients import GRADIENT_MEANS, diagnose
from rkkd_cli.train.taught_batch import TaughtBatch

GENERATOR = torch.Generator().manual_seed(0)
TEACHERS = {
    name: 3 * torch.randn(7, 5, dtype=torch.float64, generator=GENERATOR) for name in ("a", "b")
}
STUDENTS = 3 * torch.randn(4, 7, 5, dtype=torch.float64, generator=GENERATOR)
LABELS = torch.arange(7) % 5
TARGETS: list[Any] = ["a", "mean_logits", "mean_probabilities", {"a": 1.0, "b": 3.0}]


def objective(target: Any, temperature: float = 4.0) -> Objective:
    model = build_model("digits_student", 5, 1, (8, 8))
    method = MethodConfig(teacher=target, temperature=temperature, alpha=0.6)
    pair = ModelPair(model, model, 1, (8, 8), torch.zeros(7, dtype=torch.int64))
    return build_objective(method, RankConfig(grad=True, weight=2.0, steepness=1.5), pair)


OBJECTIVES = [objective(target, 4.0 + index) for index, target in enumerate(TARGETS)]


def naive_targets(target: Any, temperature: float) -> list[tuple[float, Tensor]]:
    both = torch.stack([*TEACHERS.values()])
    if isinstance(target, dict):
        return [(0.25, TEACHERS["a"]), (0.75, TEACHERS["b"])]
    means = {
        "mean_logits": both.sum(dim=0) / 2,
        "mean_probabilities": temperature * (both / temperature).softmax(dim=2).mean(dim=0).log(),
    }
    return [(1.0, {**TEACHERS, **means}[target])]


MEANS = mean_names(CLASSIFICATION_TASK)


def measured(objectives: list[Objective], students: Tensor) -> tuple[Tensor, Tensor]:
    """Return means, and the numbers of images in the columns agreement, acc and top5."""
    hard = [objective.hard for objective in objectives]
    targets = Targets(LABELS)
    found = measure(CLASSIFICATION_TASK, objectives, hard, [students], TEACHERS, targets)
    return found.means, torch.stack([*found.counts.values()], dim=1)


def naive(target: Any, temperature: float, student: Tensor) -> dict[str, Tensor]:
    parts = naive_targets(target, temperature)
    terms = [
        torch.stack(
            [
                F.cross_entropy(student, LABELS),
                kl_divergence(student, teacher, temperature),
                kendall_ranking_loss(student, teacher, steepness=1.5),
                kendall_tau_b(student, teacher),
            ]
        )
        * share
        for share, teacher in parts
    ]
    return dict(zip(MEANS, torch.stack(terms).sum(dim=0), strict=True))


@pytest.mark.parametrize("index", range(len(TARGETS)))
def test_loss_and_gradient_are_those_of_the_equations(index: int) -> None:
    target, temperature = TARGETS[index], 4.0 + index
    student = STUDENTS[index].clone().requires_grad_()
    batch = Batch(torch.zeros(7, 1, 8, 8), LABELS, torch.arange(7), None)
    outputs = {name: logits_only(logits) for name, logits in TEACHERS.items()}
    taught = TaughtBatch(batch, outputs, None, 1, 1, {})
    loss = taught.loss(OBJECTIVES[index], logits_only(student)).total
    terms = naive(target, temperature, student)
    expected = 0.4 * terms["ce"] + 0.6 * terms["kl"] + 2.0 * terms["rank"]
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(one, student)[0] for one in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_all_that_is_recorded_is_that_of_the_equations() -> None:
    means, correct = measured(OBJECTIVES, STUDENTS)
    names = [*MEANS, *target_columns(TEACHERS)]
    for index, target in enumerate(TARGETS):
        temperature, student = 4.0 + index, STUDENTS[index]
        found = dict(zip(names, means[index], strict=True))
        for term, value in naive(target, temperature, student).items():
            torch.testing.assert_close(found[term], value.to(found[term].dtype))
        for other in ("a", "b", "mean_logits", "mean_probabilities"):
            expected = naive(other, temperature, student)
            torch.testing.assert_close(found[f"kl_{other}"], expected["kl"])
            torch.testing.assert_close(found[f"rank_{other}"], expected["rank"])
        parts = [share * logits for share, logits in naive_targets(target, temperature)]
        reference = torch.stack(parts).sum(dim=0)
        agreeing = int((student.argmax(dim=1) == reference.argmax(dim=1)).sum())
        assert correct[index].tolist()[:2] == [agreeing, int((student.argmax(1) == LABELS).sum())]


def test_the_gradients_are_those_of_the_weighted_terms() -> None:
    rows = diagnose(OBJECTIVES, STUDENTS, TEACHERS)
    for index, target in enumerate(TARGETS):
        found: Mapping[str, Tensor] = dict(zip(GRADIENT_MEANS, rows[index], strict=True))
        student = STUDENTS[index].clone().requires_grad_()
        terms = naive(target, 4.0 + index, student)
        for term in ("kl", "rank"):
            (gradient,) = torch.autograd.grad(7 * terms[term], student, retain_graph=True)
            expected = gradient.square().sum(dim=1).mean()
            torch.testing.assert_close(found[f"{term}_square"], expected)


def test_no_number_of_an_arm_depends_on_the_others() -> None:
    means, correct = measured(OBJECTIVES, STUDENTS)
    gradients = diagnose(OBJECTIVES, STUDENTS, TEACHERS)
    for index in range(len(TARGETS)):
        one = slice(index, index + 1)
        own_means, own_correct = measured(OBJECTIVES[one], STUDENTS[one])
        assert torch.equal(own_means, means[one])
        assert torch.equal(own_correct, correct[one])
        assert torch.equal(diagnose(OBJECTIVES[one], STUDENTS[one], TEACHERS), gradients[one])
