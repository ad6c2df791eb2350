"""CRD's negatives and memory banks."""

from typing import Any

import torch

from rkkd_cli.config.experiment import MethodConfig, RankConfig
from rkkd_cli.data.targets import Targets
from rkkd_cli.methods import DistillInputs, ModelPair, build_objective
from rkkd_cli.methods.crd import CRD
from rkkd_cli.models import Features, build_model

CLASSES = 4
LABELS = torch.tensor([0, 1, 1, 2, 3, 0, 2, 2, 2, 3, 1, 0])


def crd(**settings: Any) -> CRD:
    torch.manual_seed(0)
    models = [build_model(name, CLASSES, 1) for name in ("digits_student", "digits_teacher")]
    pair = ModelPair(models[0], models[1], 1, (8, 8), LABELS)
    method_config = MethodConfig.model_validate(
        {"name": "crd", "crd": {"negatives": 50} | settings}
    )
    method = build_objective(method_config, RankConfig(), pair).method
    assert isinstance(method, CRD)
    return method


def inputs(method: CRD, indices: torch.Tensor) -> DistillInputs:
    widths = (method.student.embed.in_features, method.teacher.embed.in_features)
    sides = [
        Features((), torch.randn(len(indices), width), torch.zeros(len(indices), CLASSES))
        for width in widths
    ]
    return DistillInputs(sides[0], sides[1], Targets(LABELS[indices]), indices)


def test_negatives_are_images_of_other_classes_each_as_likely() -> None:
    method = crd(negatives=20_000)
    labels = torch.tensor([0, 2, 3])
    drawn = method._draw_negatives(labels)
    for label, indices in zip(labels, drawn, strict=True):
        counts = torch.bincount(indices, minlength=len(LABELS))
        allowed = label != LABELS
        assert counts[~allowed].sum() == 0
        expected = 20_000 / int(allowed.sum())
        assert (counts[allowed] / expected - 1).abs().max() < 0.1


def test_a_step_writes_the_batchs_rows_of_both_memory_banks_and_no_other() -> None:
    method, indices = crd(), torch.tensor([3, 5])
    before = [side.memory.clone() for side in (method.student, method.teacher)]
    method(inputs(method, indices))
    for side, memory_before in zip((method.student, method.teacher), before, strict=True):
        written = (side.memory != memory_before).any(dim=1)
        assert written.nonzero().flatten().tolist() == [3, 5]
        torch.testing.assert_close(side.memory[indices].norm(dim=1), torch.ones(2))


def test_z_is_estimated_once() -> None:
    method, indices = crd(), torch.arange(4)
    assert method.student.log_z.isnan()
    method(inputs(method, indices))
    first = method.student.log_z.clone()
    method(inputs(method, indices))
    assert torch.equal(method.student.log_z, first)
    assert first.isfinite()


def test_checkpoints_have_the_memory_banks_and_not_the_labels() -> None:
    names = set(crd().state_dict())
    assert {"student.memory", "teacher.memory", "student.log_z"} <= names
    assert not {"by_class", "class_counts"} & names
