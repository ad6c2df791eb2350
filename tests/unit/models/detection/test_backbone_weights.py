from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models

from rkkd_cli.errors import UserError
from rkkd_cli.models import build_model
from rkkd_cli.models.checkpoint.layout import read_weights
from rkkd_cli.models.detection import (
    backbone_of,
    build_detector,
    load_backbone,
    load_backbone_file,
)
from rkkd_cli.models.first_weights import find_weights

SMALL = {"out_channels": 16, "representation_size": 32}
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def body_maps(detector: Any) -> list[Tensor]:
    maps: dict[str, Tensor] = detector.eval().backbone.body(IMAGES)
    return list(maps.values())


def with_statistics(network: nn.Module) -> nn.Module:
    """Give BatchNorm other statistics than those of the beginning."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            nn.init.normal_(module.running_mean, std=0.1)
    return network.eval()


@pytest.mark.parametrize("pretrained", [True, False])
def test_torchvisions_resnet_of_imagenet_fits(pretrained: bool) -> None:
    classifier: Any = with_statistics(models.resnet18(weights=None))
    detector = build_detector("fasterrcnn:torchvision:resnet18", 3, SMALL, pretrained=pretrained)
    load_backbone(detector, classifier.state_dict())
    x = classifier.maxpool(classifier.relu(classifier.bn1(classifier.conv1(IMAGES))))
    expected = []
    for layer in (classifier.layer1, classifier.layer2, classifier.layer3, classifier.layer4):
        x = layer(x)
        expected.append(x)
    for found, wanted in zip(body_maps(detector), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_torchvisions_mobilenet_of_imagenet_fits() -> None:
    classifier: Any = with_statistics(models.mobilenet_v2(weights=None))
    detector = build_detector("fasterrcnn:torchvision:mobilenet_v2", 3, SMALL, pretrained=True)
    load_backbone(detector, classifier.state_dict())
    found = body_maps(detector)
    for index, block in enumerate((3, 6, 13, 17)):
        torch.testing.assert_close(found[index], classifier.features[: block + 1](IMAGES))


def test_a_zoo_models_file_of_any_classes_fits(tmp_path: Path) -> None:
    classifier = with_statistics(build_model("resnet8", 100))
    path = tmp_path / "resnet8.pt"
    wrapped = {f"module.{name}": tensor for name, tensor in classifier.state_dict().items()}
    torch.save({"model": wrapped, "epoch": 3}, path)
    detector = build_detector("fcos:resnet8", 3, {"out_channels": 64}, pretrained=True)
    load_backbone_file(detector, find_weights("resnet8", str(path)), read_weights(path))
    expected = classifier.forward_features(IMAGES).maps  # type: ignore[operator]
    for found, wanted in zip(body_maps(detector), expected[-2:], strict=True):
        torch.testing.assert_close(found, wanted)


def test_timms_published_file_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "timm:resnet18"
    network = with_statistics(timm.create_model("resnet18"))
    path = tmp_path / "resnet18.pt"
    torch.save(network.state_dict(), path)
    published = find_weights(name, "pretrained")._replace(path=path)
    detector = build_detector(f"retinanet:{name}", 3, {"out_channels": 16}, pretrained=True)
    load_backbone_file(detector, published, read_weights(path))
    expected = network.forward_intermediates(IMAGES, indices=[2, 3, 4], intermediates_only=True)  # type: ignore[operator]
    for found, wanted in zip(body_maps(detector), expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", ["torchvision:fasterrcnn_resnet50_fpn_v2"])
def test_torchvisions_own_detectors_take_a_classifiers_weights(name: str) -> None:
    detector = build_detector(name, 3)
    backbone = backbone_of(name)
    assert backbone == "torchvision:resnet50"
    state = models.resnet50(weights=None).state_dict()
    load_backbone(detector, state)
    assert torch.equal(detector.state_dict()["backbone.body.conv1.weight"], state["conv1.weight"])


def test_weights_of_another_backbone_are_refused_and_change_nothing(tmp_path: Path) -> None:
    detector = build_detector("fasterrcnn:torchvision:resnet18", 3, SMALL)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    with pytest.raises(UserError, match="the backbone's file is of another architecture: "):
        load_backbone(
            detector, models.resnet34(weights=None).state_dict() | {"conv1.weight": IMAGES}
        )
    path = tmp_path / "other.pt"
    torch.save(build_model("resnet8", 10).state_dict(), path)
    source = find_weights("torchvision:resnet18", str(path))
    with pytest.raises(UserError, match=r"other\.pt is of another architecture: .* missing"):
        load_backbone_file(detector, source, read_weights(path))
    for name, tensor in detector.state_dict().items():
        assert torch.equal(tensor, before[name])
