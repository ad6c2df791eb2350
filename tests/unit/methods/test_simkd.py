"""SimKD's variants: which maps are matched, which images count, and the student's logits."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rkkd_cli.config.experiment import MethodConfig, RankConfig
from rkkd_cli.data.targets import Targets
from rkkd_cli.errors import UserError
from rkkd_cli.methods import DistillInputs, ModelPair, build_objective
from rkkd_cli.methods.simkd import ReusedClassifier, SimKD
from rkkd_cli.models import Classifier, Features, build_model

CLASSES, SIDE = 5, 32


def make_pair(student: str = "MobileNetV2x2", teacher: str = "resnet8x4") -> ModelPair:
    torch.manual_seed(0)
    models = [build_model(name, CLASSES) for name in (student, teacher)]
    models[1].eval().requires_grad_(False)
    return ModelPair(models[0], models[1], 3, (SIDE, SIDE), torch.arange(8) % CLASSES)


def simkd(pair: ModelPair, **settings: Any) -> SimKD:
    method_config = MethodConfig.model_validate({"name": "simkd", "simkd": settings})
    method = build_objective(method_config, RankConfig(), pair).method
    assert isinstance(method, SimKD)
    return method


def inputs(method: SimKD, pair: ModelPair, images: Tensor, labels: Tensor) -> DistillInputs:
    student = method.wrap_student(pair.student)
    with torch.no_grad():
        teacher_outputs = pair.teacher.forward_features(images)
    return DistillInputs(student.forward_features(images), teacher_outputs, Targets(labels), labels)


@pytest.mark.parametrize(
    ("projectors", "stages"),
    [("last", []), ("two_thirds_and_last", [(3, 2)]), ("all", [(1, 1), (3, 2)])],
)
def test_models_with_different_numbers_of_stages_are_matched_by_depth(
    projectors: str, stages: list[tuple[int, int]]
) -> None:
    pair = make_pair()
    assert [len(s.maps) - 1 for s in (pair.student_shapes, pair.teacher_shapes)] == [4, 3]
    method = simkd(pair, projectors=projectors)
    assert method.stages == stages
    assert len(method.inner) == len(stages)
    images = torch.randn(4, 3, SIDE, SIDE)
    terms = method(inputs(method, pair, images, torch.arange(4)))
    assert all(torch.isfinite(term) for term in terms.values())


def test_the_student_infers_through_the_teachers_classifier() -> None:
    pair = make_pair("resnet8", "resnet8x4")
    method = simkd(pair)
    student = method.wrap_student(pair.student)
    assert isinstance(student, ReusedClassifier)
    images = torch.randn(3, 3, SIDE, SIDE)
    features = student.eval().forward_features(images)
    assert features.final is not None
    projected = student.projector(pair.student.forward_features(images).final)
    expected = pair.teacher.fc(projected.mean(dim=(2, 3)))  # type: ignore[operator]
    torch.testing.assert_close(features.logits, expected)
    assert torch.equal(student(images), features.logits)
    assert torch.equal(student.classify(features.final), features.logits)


def test_a_perfect_projection_has_the_teachers_accuracy() -> None:
    pair = make_pair("resnet8x4", "resnet8x4")
    student = simkd(pair).wrap_student(pair.student).eval()
    images = torch.randn(3, 3, SIDE, SIDE)
    final = pair.teacher.forward_features(images).final
    assert final is not None
    assert torch.equal(student.classify(final), pair.teacher(images))


def test_the_teacher_is_neither_trained_nor_kept() -> None:
    pair = make_pair()
    method = simkd(pair, projectors="all")
    kept = {*method.wrap_student(pair.student).state_dict(), *method.state_dict()}
    frozen = {id(weight) for weight in pair.teacher.parameters()}
    trained = [*method.wrap_student(pair.student).parameters(), *method.parameters()]
    assert not frozen & {id(weight) for weight in trained}
    assert all(name.startswith(("student.", "projector.", "inner.")) for name in kept)


@pytest.mark.parametrize("bias", [True, False])
def test_projectors_have_a_bias_where_it_is_asked_for(bias: bool) -> None:
    pair = make_pair()
    method = simkd(pair, projectors="two_thirds_and_last", projector_bias=bias)
    student = method.wrap_student(pair.student)
    assert isinstance(student, ReusedClassifier)
    projectors = torch.nn.ModuleList([student.projector, *method.inner])
    convs = [m for m in projectors.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convs) == 6
    assert all((conv.bias is not None) == bias for conv in convs)


@pytest.mark.parametrize("loss", ["l2", "kl"])
def test_the_chosen_feature_loss_alone_is_optimised(loss: str) -> None:
    pair = make_pair()
    method_config = MethodConfig.model_validate({"name": "simkd", "simkd": {"feature_loss": loss}})
    weights = build_objective(method_config, RankConfig(), pair).loss_weights(1)
    assert {name for name, weight in weights.items() if weight} == {f"feature_{loss}"}


def test_only_images_that_the_teacher_classifies_correctly_count() -> None:
    pair = make_pair("resnet8", "resnet8x4")
    images = torch.randn(6, 3, SIDE, SIDE)
    predicted = pair.teacher(images).argmax(dim=1)
    labels = torch.where(torch.arange(6) < 4, predicted, (predicted + 1) % CLASSES)
    filtered, plain = simkd(pair, teacher_correct_only=True), simkd(pair)
    filtered.load_state_dict(plain.state_dict())
    filtered_student, plain_student = (
        method.wrap_student(pair.student).eval() for method in (filtered, plain)
    )
    filtered_student.load_state_dict(plain_student.state_dict())
    expected = plain(inputs(plain, pair, images[:4], labels[:4]))
    counted = filtered(inputs(filtered, pair, images, labels))
    for name, value in expected.items():
        torch.testing.assert_close(counted[name], value)
    none = filtered(inputs(filtered, pair, images[4:], labels[4:]))
    assert [value.item() for value in none.values()] == [0.0, 0.0]


class Flat(Classifier):
    """A model without feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(3 * SIDE * SIDE, CLASSES)

    def forward_features(self, x: Tensor) -> Features:
        flat = x.flatten(1)
        return Features((), flat, self.fc(flat))


@pytest.mark.parametrize("name", ["simkd", "sp", "at", "vid", "fitnet", "reviewkd"])
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_model_without_maps_is_refused(name: str, role: str) -> None:
    model = build_model("resnet8", CLASSES)
    first, second = (Flat(), model) if role == "student" else (model, Flat())
    pair = ModelPair(first, second, 3, (SIDE, SIDE), torch.arange(8))
    with pytest.raises(UserError, match=f"the {role} has"):
        build_objective(MethodConfig(name=name), RankConfig(), pair)
