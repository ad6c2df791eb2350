"""Methods with trainable parts against the field's code: methods.json, in float64."""

import json
from pathlib import Path
from typing import Any

import parts
import pytest
import torch
from parts import IMAGES, LARGER, SMALLER, STUDENT, TEACHER, Shapes
from torch import Tensor

from rkkd_cli.config.experiment import MethodConfig, RankConfig
from rkkd_cli.data.targets import Targets
from rkkd_cli.methods import DistillInputs, Method, ModelPair, build_objective
from rkkd_cli.methods.simkd import SimKD
from rkkd_cli.models import Classifier, Features

RECORD = Path(parts.__file__).with_name("methods.json")
CASES: list[dict[str, Any]] = json.loads(RECORD.read_text(encoding="utf-8"))["cases"]
SHAPES = {"student": STUDENT, "larger": LARGER, "smaller": SMALLER}
CLASSES = 4


class StubClassifier(Classifier):
    """A model whose features have the given shapes."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.shapes = shapes

    def forward_features(self, x: Tensor) -> Features:
        maps = tuple(x.new_zeros(len(x), *shape) for shape in self.shapes.maps)
        pooled, logits = x.new_zeros(len(x), self.shapes.pooled), x.new_zeros(len(x), CLASSES)
        return Features(maps, pooled, logits, maps, maps[-1])

    def classify(self, final: Tensor) -> Tensor:
        return final.mean(dim=(2, 3))[:, :CLASSES]


def build(name: str, shapes: Shapes) -> Method:
    labels = torch.arange(IMAGES) % CLASSES
    pair = ModelPair(StubClassifier(shapes), StubClassifier(TEACHER), 3, (16, 16), labels)
    return build_objective(MethodConfig(name=name), RankConfig(), pair).method.double()


def features(maps: list[Tensor], pooled: Tensor) -> Features:
    logits = torch.zeros(IMAGES, CLASSES).double()
    return Features(tuple(maps), pooled, logits, tuple(maps), maps[-1])


def regressor_weights(method: Method) -> list[Tensor]:
    weights = dict(method.named_parameters())
    return [p for name, p in weights.items() if name.startswith("regressors")]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['method']}-{c['source']}-{c['student']}")
def test_loss_and_gradients_are_those_of_the_published_code(case: dict[str, Any]) -> None:
    shapes = SHAPES[case["student"]]
    method = build(case["method"], shapes)
    maps, pooled = parts.maps_of(shapes, 0.3), parts.pooled_of(shapes, 0.3)
    teacher = features(parts.maps_of(TEACHER, 2.1), parts.pooled_of(TEACHER, 2.1))
    student, weights = features(maps, pooled), list(method.parameters())
    if isinstance(method, SimKD):
        projector = method._wrapped[0].projector.double()
        weights = list(projector.parameters())
    filled = regressor_weights(method) if case["method"] == "vid" else weights
    parts.fill_in_order(filled)
    if isinstance(method, SimKD):
        student = student._replace(final=projector(maps[-1]))
    labels = torch.zeros(IMAGES, dtype=torch.int64)
    terms = method(DistillInputs(student, teacher, Targets(labels), torch.arange(IMAGES)))
    loss = terms["feature_l2"] if isinstance(method, SimKD) else sum(terms.values())
    others = [p for p in weights if all(p is not weight for weight in filled)]
    in_order = [*filled, *others]
    gradients = torch.autograd.grad(loss, [*maps, pooled, *in_order], allow_unused=True)
    sizes = [0.0 if g is None else g.abs().sum().item() for g in gradients]
    count = len(maps) + 1
    assert loss.item() == pytest.approx(case["loss"], rel=1e-10)
    assert sizes[:count] == pytest.approx(case["inputs"], rel=1e-9, abs=1e-12)
    assert sizes[count:] == pytest.approx(case["parts"], rel=1e-9, abs=1e-12)
