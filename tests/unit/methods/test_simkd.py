"""SimKD's variants: which maps are matched, which images count, and how the student infers."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rkkd_cli.config.experiment import MethodConfig, RankConfig
from rkkd_cli.errors import UserError
from rkkd_cli.methods import DistillInputs, Pair, build_objective
from rkkd_cli.methods.simkd import ReusedClassifier, SimKD
from rkkd_cli.models import Classifier, Features, build_model

CLASSES, SIDE = 5, 32


def pair(student: str = "MobileNetV2x2", teacher: str = "resnet8x4") -> Pair:
    torch.manual_seed(0)
    models = [build_model(name, CLASSES) for name in (student, teacher)]
    models[1].eval().requires_grad_(False)
    return Pair(models[0], models[1], 3, (SIDE, SIDE), torch.arange(8) % CLASSES)


def simkd(of: Pair, **settings: Any) -> SimKD:
    method_config = MethodConfig.model_validate({"name": "simkd", "simkd": settings})
    method = build_objective(method_config, RankConfig(), of).method
    assert isinstance(method, SimKD)
    return method


def inputs(method: SimKD, of: Pair, images: Tensor, labels: Tensor) -> DistillInputs:
    student = method.wrap(of.student)
    with torch.no_grad():
        taught = of.teacher.forward_features(images)
    return DistillInputs(student.forward_features(images), taught, labels, labels)


@pytest.mark.parametrize(
    ("projectors", "stages"),
    [("last", []), ("two_thirds_and_last", [(3, 2)]), ("all", [(1, 1), (3, 2)])],
)
def test_models_with_different_numbers_of_stages_are_matched_by_depth(
    projectors: str, stages: list[tuple[int, int]]
) -> None:
    of = pair()
    assert [len(s.maps) - 1 for s in (of.student_shapes, of.teacher_shapes)] == [4, 3]
    method = simkd(of, projectors=projectors)
    assert method.stages == stages
    assert len(method.inner) == len(stages)
    images = torch.randn(4, 3, SIDE, SIDE)
    terms = method(inputs(method, of, images, torch.arange(4)))
    assert all(torch.isfinite(term) for term in terms.values())


def test_the_student_infers_through_the_teachers_classifier() -> None:
    of = pair("resnet8", "resnet8x4")
    method = simkd(of)
    student = method.wrap(of.student)
    assert isinstance(student, ReusedClassifier)
    images = torch.randn(3, 3, SIDE, SIDE)
    features = student.eval().forward_features(images)
    assert features.final is not None
    projected = student.projector(of.student.forward_features(images).final)
    expected = of.teacher.fc(projected.mean(dim=(2, 3)))  # type: ignore[operator]
    torch.testing.assert_close(features.logits, expected)
    assert torch.equal(student(images), features.logits)
    assert torch.equal(student.classify(features.final), features.logits)


def test_a_perfect_projection_has_the_teachers_accuracy() -> None:
    of = pair("resnet8x4", "resnet8x4")
    student = simkd(of).wrap(of.student).eval()
    images = torch.randn(3, 3, SIDE, SIDE)
    final = of.teacher.forward_features(images).final
    assert final is not None
    assert torch.equal(student.classify(final), of.teacher(images))


def test_the_teacher_is_neither_trained_nor_kept() -> None:
    of = pair()
    method = simkd(of, projectors="all")
    kept = {*method.wrap(of.student).state_dict(), *method.state_dict()}
    teachers = {id(one) for one in of.teacher.parameters()}
    trained = [*method.wrap(of.student).parameters(), *method.parameters()]
    assert not teachers & {id(one) for one in trained}
    assert all(name.startswith(("student.", "projector.", "inner.")) for name in kept)


@pytest.mark.parametrize("bias", [True, False])
def test_projectors_have_a_bias_where_it_is_asked_for(bias: bool) -> None:
    of = pair()
    method = simkd(of, projectors="two_thirds_and_last", projector_bias=bias)
    student = method.wrap(of.student)
    assert isinstance(student, ReusedClassifier)
    projectors = torch.nn.ModuleList([student.projector, *method.inner])
    convs = [m for m in projectors.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convs) == 6
    assert all((conv.bias is not None) == bias for conv in convs)


@pytest.mark.parametrize("loss", ["l2", "kl"])
def test_the_chosen_feature_loss_alone_is_optimised(loss: str) -> None:
    of = pair()
    method_config = MethodConfig.model_validate({"name": "simkd", "simkd": {"feature_loss": loss}})
    weights = build_objective(method_config, RankConfig(), of).weights(1)
    assert {name for name, weight in weights.items() if weight} == {f"feature_{loss}"}


def test_only_images_that_the_teacher_classifies_correctly_count() -> None:
    of = pair("resnet8", "resnet8x4")
    images = torch.randn(6, 3, SIDE, SIDE)
    predicted = of.teacher(images).argmax(dim=1)
    labels = torch.where(torch.arange(6) < 4, predicted, (predicted + 1) % CLASSES)
    picky, plain = simkd(of, teacher_correct_only=True), simkd(of)
    picky.load_state_dict(plain.state_dict())
    for method in (picky, plain):
        method.wrap(of.student).eval()
    picky.wrap(of.student).load_state_dict(plain.wrap(of.student).state_dict())
    right = plain(inputs(plain, of, images[:4], labels[:4]))
    counted = picky(inputs(picky, of, images, labels))
    for name, value in right.items():
        torch.testing.assert_close(counted[name], value)
    none = picky(inputs(picky, of, images[4:], labels[4:]))
    assert [one.item() for one in none.values()] == [0.0, 0.0]


class Flat(Classifier):
    """A model without feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(3 * SIDE * SIDE, CLASSES)

    def forward_features(self, x: Tensor) -> Features:
        flat = x.flatten(1)
        return Features((), flat, self.fc(flat))


@pytest.mark.parametrize("name", ["simkd", "sp", "at", "vid", "fitnet", "reviewkd"])
@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_model_without_maps_is_refused(name: str, who: str) -> None:
    model = build_model("resnet8", CLASSES)
    first, second = (Flat(), model) if who == "student" else (model, Flat())
    of = Pair(first, second, 3, (SIDE, SIDE), torch.arange(8))
    with pytest.raises(UserError, match=f"the {who} has"):
        build_objective(MethodConfig(name=name), RankConfig(), of)
