"""What holds for every method on a real pair: terms, weights, gradients, the ranking loss."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rkkd_cli.config.experiment import MethodConfig, RankConfig
from rkkd_cli.config.methods import methods_for
from rkkd_cli.data.targets import Targets
from rkkd_cli.losses import kl_divergence, standardize_logits
from rkkd_cli.methods import (
    METHODS,
    DistillInputs,
    ModelPair,
    Objective,
    ViewOutputs,
    build_objective,
)
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.models import Classifier, build_model

CLASSES, IMAGES, SIDE = 5, 6, 16
LOGGED = RankConfig()
SMALL: dict[str, dict[str, Any]] = {"crd": {"negatives": 7}}


def make_pair() -> ModelPair:
    torch.manual_seed(0)
    student, teacher = build_model("resnet8", CLASSES), build_model("resnet8x4", CLASSES)
    teacher.eval().requires_grad_(False)
    labels = torch.arange(4 * CLASSES) % CLASSES
    return ModelPair(student.train(), teacher, 3, (SIDE, SIDE), labels)


def flat(gradients: Sequence[Tensor | None], weights: Sequence[Tensor]) -> Tensor:
    pairs = zip(gradients, weights, strict=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for g, w in pairs])


class Bench:
    """A method on a pair of models, with everything that it may read."""

    def __init__(self, name: str, rank: RankConfig = LOGGED, **method_config: Any) -> None:
        self.pair = make_pair()
        settings = {name: SMALL[name]} if name in SMALL else {}
        method = MethodConfig.model_validate({"name": name, **settings, **method_config})
        self.objective: Objective = build_objective(method, rank, self.pair)
        self.student: Classifier = self.objective.method.wrap_student(self.pair.student).train()
        torch.manual_seed(1)
        images, strong = torch.randn(2, IMAGES, 3, SIDE, SIDE)
        self.sample_indices = torch.arange(IMAGES) * 3
        self.views = [self.view(images), self.view(strong)]

    def view(self, images: Tensor) -> ViewOutputs:
        with torch.no_grad():
            teacher = self.pair.teacher.forward_features(images)
        return ViewOutputs(self.student.forward_features(images), teacher)

    def inputs(self, epoch: int = 1) -> DistillInputs:
        weak, strong = self.views
        labels = self.pair.train_labels[self.sample_indices]
        return DistillInputs(*weak, Targets(labels), self.sample_indices, epoch, 240, strong)

    def gradient(self, epoch: int = 1) -> Tensor:
        """The gradient by all of the student's weights, as one vector; 0 where there is none."""
        torch.manual_seed(2)  # CRD draws
        total = self.objective.loss(self.inputs(epoch)).total
        weights = list(self.student.parameters())
        gradients = torch.autograd.grad(total, weights, allow_unused=True, retain_graph=True)
        return flat(gradients, weights)


@pytest.mark.parametrize("name", methods_for("classification"))
def test_the_loss_is_finite_and_reaches_every_trained_weight(name: str) -> None:
    bench = Bench(name)
    losses = bench.objective.loss(bench.inputs(epoch=30))
    assert losses.total.ndim == 0
    assert math.isfinite(losses.total.item())
    assert tuple(losses.method_terms) == bench.objective.method_terms == METHODS[name].terms
    for term, value in losses.method_terms.items():
        assert value.ndim == 0, term
        assert not value.requires_grad, term
    torch.autograd.backward(losses.total)
    unused = {"student.fc.weight", "student.fc.bias"} if name == "simkd" else set()
    for parameter, weight in bench.student.named_parameters():
        assert (weight.grad is None) == (parameter in unused), parameter
    for parameter, weight in bench.objective.method.named_parameters():
        assert weight.grad is not None, parameter
    assert all(weight.grad is None for weight in bench.pair.teacher.parameters())


@pytest.mark.parametrize("name", methods_for("classification"))
@pytest.mark.parametrize("standardize", [False, True], ids=["raw", "standardized"])
def test_the_total_is_the_weighted_sum_of_the_raw_terms(name: str, standardize: bool) -> None:
    rank = RankConfig(grad=True, weight=1.5, steepness=2.0)
    bench = Bench(name, rank, standardize_logits=standardize)
    inputs = bench.inputs(epoch=7)
    torch.manual_seed(3)
    losses = bench.objective.loss(inputs)
    student, teacher = inputs.student.logits, inputs.teacher.logits
    values = losses.method_terms | {
        "ce": torch.nn.functional.cross_entropy(student, inputs.labels),
        "kl": kl_divergence(student, teacher, 4.0),
        "rank": bench.objective.ranking(student, teacher),
    }
    weights = bench.objective.loss_weights(7)
    expected = sum(weight * values[term] for term, weight in weights.items())
    assert losses.total.item() == pytest.approx(float(torch.as_tensor(expected).detach()), rel=1e-5)
    assert ("kl_standardized" in losses.method_terms) == standardize
    if standardize:
        kl = kl_divergence(standardize_logits(student), standardize_logits(teacher), 4.0)
        assert losses.method_terms["kl_standardized"].item() == pytest.approx(kl.item(), rel=1e-6)


@pytest.mark.parametrize("name", methods_for("classification"))
def test_the_ranking_loss_adds_its_weighted_gradient_and_nothing_else(name: str) -> None:
    logged = Bench(name, RankConfig(grad=False, weight=0.9)).gradient()
    unweighted = Bench(name, RankConfig(grad=False, weight=0.0)).gradient()
    ranked = Bench(name, RankConfig(grad=True, weight=0.9))
    alone = ranked.objective.ranking(ranked.views[0].student.logits, ranked.views[0].teacher.logits)
    weights = list(ranked.student.parameters())
    gradients = torch.autograd.grad(alone, weights, allow_unused=True, retain_graph=True)
    rank_gradient = flat(gradients, weights)
    assert torch.equal(logged, unweighted)
    assert rank_gradient.norm() > 0
    difference = ranked.gradient() - logged
    torch.testing.assert_close(difference, 0.9 * rank_gradient, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("name", methods_for("classification"))
def test_weights_can_be_given(name: str) -> None:
    bench = Bench(name, ce_weight=2.0, kl_weight=3.0)
    weights = bench.objective.loss_weights(100)
    assert weights["ce"] == (1.0 if name == "ce" else 2.0)
    kl_weight = {"ce": None, "soft_ce": 3.0 / 16, "ctkd": None, "mlkd": None}.get(name, 3.0)
    assert weights.get("kl") == kl_weight


@pytest.mark.parametrize("name", ["dkd", "reviewkd"])
def test_a_warm_up_rises_over_its_epochs(name: str) -> None:
    objective = Bench(name).objective
    term = METHODS[name].terms[-1]
    full = objective.loss_weights(20)[term]
    assert [objective.loss_weights(epoch)[term] / full for epoch in (1, 5, 20, 240)] == [
        0.05, 0.25, 1.0, 1.0
    ]  # fmt: skip


OF_LOGITS = [name for name in methods_for("classification") if not METHODS[name].needs_features]


@pytest.mark.parametrize("name", OF_LOGITS)
def test_methods_of_logits_need_nothing_else(name: str) -> None:
    bench = Bench(name)
    inputs, torch_seed = bench.inputs(), 4
    strong = inputs.strong_view
    assert strong is not None
    without_features = replace(
        inputs,
        student=logits_only(inputs.student.logits),
        teacher=logits_only(inputs.teacher.logits),
        strong_view=ViewOutputs(
            logits_only(strong.student.logits), logits_only(strong.teacher.logits)
        ),
    )
    torch.manual_seed(torch_seed)
    expected = bench.objective.loss(inputs).total
    assert torch.equal(bench.objective.loss(without_features).total, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", methods_for("classification"))
def test_half_precision_is_raised_to_float32(name: str, dtype: torch.dtype) -> None:
    bench = Bench(name)

    def halved(view: ViewOutputs) -> ViewOutputs:
        return ViewOutputs(*(
            features._replace(
                maps=tuple(m.detach().to(dtype) for m in features.maps),
                pooled=features.pooled.detach().to(dtype),
                logits=features.logits.detach().to(dtype),
                preacts=tuple(m.detach().to(dtype) for m in features.preacts),
                final=None if features.final is None else features.final.detach().to(dtype),
            )
            for features in view
        ))  # fmt: skip

    bench.views = [halved(view) for view in bench.views]
    losses = bench.objective.loss(bench.inputs())
    assert losses.total.dtype == torch.float32
    assert math.isfinite(losses.total.item())
