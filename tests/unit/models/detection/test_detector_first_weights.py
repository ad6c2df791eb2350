"""The weights that a detector begins with: whole files, those of COCO, classifiers' files."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rkkd_cli.errors import UserError
from rkkd_cli.models import build_model
from rkkd_cli.models.detection import Detector, build_detector
from rkkd_cli.models.detection.first_weights import (
    find_detector_weights,
    load_detector_weights,
    replaced_before_download,
)

SMALL: dict[str, dict[str, Any]] = {
    "fasterrcnn:resnet8": {"out_channels": 8, "representation_size": 16},
    "retinanet:resnet8": {"out_channels": 32},
}
ANIMALS = ("dog", "zebra", "cat")
NUMBERS = [18, 24, 17]  # of these among COCO's
LIBRARYS = "torchvision:fasterrcnn_resnet50_fpn"


def detector(name: str, classes: int, seed: int) -> Detector:
    torch.manual_seed(seed)
    return build_detector(name, classes, SMALL[name])


def scores(model: Detector, name: str) -> torch.Tensor:
    if name.startswith("fasterrcnn"):
        return model.get_parameter("roi_heads.box_predictor.cls_score.weight").detach()
    weight = model.get_parameter("head.classification_head.cls_logits.weight").detach()
    return weight.view(-1, 91 if len(weight) % 91 == 0 else 3, *weight.shape[1:]).transpose(0, 1)


@pytest.mark.parametrize("name", SMALL)
def test_columns_of_coco_are_found_by_the_names_of_classes(name: str, tmp_path: Path) -> None:
    is_two_stage = name.startswith("fasterrcnn")
    whole, path = detector(name, 90 if is_two_stage else 91, 0), tmp_path / "coco.pth"
    torch.save(whole.state_dict(), path)
    model = detector(name, 3, 1)
    loaded = load_detector_weights(model, find_detector_weights(name, str(path)), ANIMALS)
    assert loaded.replaced_head is None
    wanted = [0, *NUMBERS] if is_two_stage else NUMBERS
    assert torch.equal(scores(model, name), scores(whole, name)[wanted])


@pytest.mark.parametrize("name", SMALL)
def test_other_classes_keep_the_layers_of_the_detector(name: str, tmp_path: Path) -> None:
    whole, path = detector(name, 90 if name.startswith("faster") else 91, 0), tmp_path / "c.pth"
    torch.save(whole.state_dict(), path)
    model, fresh = detector(name, 3, 1), detector(name, 3, 1)
    loaded = load_detector_weights(model, find_detector_weights(name, str(path)), ("a", "b", "cat"))
    assert loaded.replaced_head is not None
    assert "is replaced by one of 3 with random weights" in str(loaded.replaced_head)
    assert torch.equal(scores(model, name), scores(fresh, name))
    body = "backbone.fpn.inner_blocks.0.0.weight"
    assert torch.equal(model.get_parameter(body), whole.get_parameter(body))


def test_a_classifiers_file_is_the_backbones(tmp_path: Path) -> None:
    name, classifier = "fasterrcnn:resnet8", build_model("resnet8", 100)
    torch.save(classifier.state_dict(), tmp_path / "c.pth")
    model = detector(name, 3, 1)
    source = find_detector_weights(name, str(tmp_path / "c.pth"))
    loaded = load_detector_weights(model, source, ANIMALS)
    assert str(loaded).endswith("c.pth; all but its backbone begins with random weights")
    first = classifier.state_dict()["conv1.weight"]
    body = model.backbone.body.state_dict().values()
    assert any(t.shape == first.shape and torch.equal(t, first) for t in body)


def test_torchvisions_names_are_of_the_detector_or_of_its_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    whole, backbone = (find_detector_weights(LIBRARYS, name) for name in ("pretrained", "DEFAULT"))
    assert whole.label == backbone.label == "COCO_V1"
    assert not whole.is_here
    assert replaced_before_download(whole, LIBRARYS, ANIMALS) is None
    assert replaced_before_download(whole, LIBRARYS, ("a",)) == ("", 80, 1)
    classifier = find_detector_weights(LIBRARYS, "IMAGENET1K_V2")
    assert classifier.model == "torchvision:resnet50"
    assert "all but its backbone" in str(replaced_before_download(classifier, LIBRARYS, ANIMALS))
    on_backbone = find_detector_weights("retinanet:torchvision:resnet18", "pretrained")
    assert on_backbone.label == "IMAGENET1K_V1"
    with pytest.raises(UserError, match=r"COCO_V1, IMAGENET1K_V1, IMAGENET1K_V2"):
        find_detector_weights(LIBRARYS, "COCO_V9")
    with pytest.raises(UserError, match="detectron2's model zoo"):
        find_detector_weights("detectron2:faster_rcnn_R_50_FPN", "pretrained")
