"""The forms of KD by their gradients, in float64."""

import pytest
import torch
from torch.nn import functional as F

from rkkd_cli.config.experiment import MethodConfig, RankConfig
from rkkd_cli.data.targets import Targets
from rkkd_cli.losses import soft_cross_entropy
from rkkd_cli.methods import DistillInputs, ModelPair, build_objective
from rkkd_cli.methods.inputs import logits_only


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 7.5, 50.0])
def test_soft_ce_has_the_gradient_of_the_studys_loss(
    alpha: float, temperature: float, digits_pair: ModelPair
) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 10, generator=generator, dtype=torch.float64) * 3
    labels = torch.arange(6)
    student.requires_grad_()
    method = MethodConfig(name="soft_ce", alpha=alpha, temperature=temperature)
    outputs = DistillInputs(logits_only(student), logits_only(teacher), Targets(labels), labels)
    objective = build_objective(method, RankConfig(), digits_pair)
    (gradient,) = torch.autograd.grad(objective.loss(outputs).total, student)
    hard = F.cross_entropy(student, labels)
    stated = (1 - alpha) * hard + alpha * soft_cross_entropy(student, teacher, temperature)
    (expected,) = torch.autograd.grad(stated, student)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-14)


def test_ce_optimises_the_labels_alone(digits_pair: ModelPair) -> None:
    objective = build_objective(MethodConfig(name="ce", alpha=0.9), RankConfig(), digits_pair)
    assert objective.loss_weights(1) == {"ce": 1.0}


def test_weights_can_be_given_directly(digits_pair: ModelPair) -> None:
    method = MethodConfig(name="soft_ce", ce_weight=2.0, kl_weight=8.0, temperature=2.0)
    assert build_objective(method, RankConfig(), digits_pair).loss_weights(1) == {
        "ce": 2.0,
        "kl": 2.0,
    }
