from pathlib import Path
from typing import Any

import pytest
import torch
from prepared_batches import PreparedBatch, prepared_batch
from torch import Tensor, nn
from torchvision.models.detection._utils import overwrite_eps
from torchvision.ops import FrozenBatchNorm2d

from rkkd_cli.errors import UserError
from rkkd_cli.models.detection import (
    Detections,
    Detector,
    build_detector,
    load_detector,
    published_detector,
    read_detector_file,
    restrict_classes,
)
from rkkd_cli.models.detection.published import coco_columns, published_categories, remove_eps

COLUMNS = 91
CATEGORIES = [1, 18, 90]  # person, dog, toothbrush: COCO's numbers
DROPPED = -1e4  # logits of columns that are left out, as good as impossible
SMALL: dict[str, dict[str, Any]] = {
    "fasterrcnn": {"out_channels": 16, "representation_size": 32},
    "retinanet": {"out_channels": 16},
    "fcos": {"out_channels": 64},
}


@pytest.fixture(scope="module")
def batch() -> PreparedBatch:
    return prepared_batch()


def of_coco(kind: str) -> Detector:
    """A detector with COCO's columns, which finds no other category than three."""
    torch.manual_seed(0)
    classes = COLUMNS - 1 if kind == "fasterrcnn" else COLUMNS
    detector = build_detector(f"{kind}:torchvision:resnet18", classes, SMALL[kind]).double()
    dropped = [column for column in range(1, COLUMNS) if column not in CATEGORIES]
    with torch.no_grad():
        if kind == "fasterrcnn":
            predictor: Any = detector.get_submodule("roi_heads.box_predictor")
            predictor.cls_score.weight.normal_()
            predictor.bbox_pred.weight.normal_(std=0.1)
            predictor.cls_score.bias[dropped] = DROPPED
        else:
            scores: Any = detector.get_submodule("head.classification_head.cls_logits")
            scores.weight.normal_()
            bias = torch.zeros(len(scores.bias) // COLUMNS, COLUMNS).double()
            bias[:, [0, *dropped]] = DROPPED
            scores.bias.copy_(bias.flatten())
    return detector.eval()


def detections(detector: Detector, batch: PreparedBatch) -> list[Detections]:
    return detector.detect(detector.feature_maps(batch.images), batch.images, batch.sizes)


@pytest.mark.parametrize("kind", SMALL)
def test_columns_of_the_datasets_classes_give_the_same_detections(
    kind: str, batch: PreparedBatch, tmp_path: Path
) -> None:
    full = of_coco(kind)
    path = tmp_path / "coco.pth"
    torch.save({"model": full.state_dict(), "epoch": 25}, path)  # torchvision's own script
    restricted = build_detector(f"{kind}:torchvision:resnet18", 3, SMALL[kind]).double().eval()
    load_detector(restricted, read_detector_file(path), "", CATEGORIES)
    expected, found = detections(full, batch), detections(restricted, batch)
    first = 1 if kind == "fasterrcnn" else 0  # the full detector's label of column 1
    assert sum(len(image.labels) for image in expected) > 10
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.boxes, theirs.boxes, rtol=0, atol=1e-9)
        torch.testing.assert_close(ours.scores, theirs.scores, rtol=0, atol=1e-12)
        named = [CATEGORIES[label] for label in ours.labels.tolist()]
        assert named == (theirs.labels + first).tolist()


def test_names_of_older_files_are_understood(tmp_path: Path) -> None:
    for kind in ("fasterrcnn", "retinanet"):
        detector = build_detector(f"{kind}:torchvision:resnet18", 3, SMALL[kind], pretrained=True)
        state = detector.state_dict()
        old = {older(name): tensor for name, tensor in state.items()}
        assert old.keys() != state.keys()
        old["backbone.body.bn1.num_batches_tracked"] = torch.tensor(3)
        path = tmp_path / f"{kind}.pkl"
        torch.save(old, path)
        fresh = build_detector(f"{kind}:torchvision:resnet18", 3, SMALL[kind], pretrained=True)
        load_detector(fresh, read_detector_file(path), "")
        assert all(torch.equal(t, state[name]) for name, t in fresh.state_dict().items())


def older(name: str) -> str:
    parts = name.split(".")
    if name.startswith("rpn.head.conv."):
        return f"rpn.head.conv.{parts[-1]}"
    if name.startswith("head.") and parts[2] == "conv":
        return ".".join([*parts[:3], str(2 * int(parts[3])), parts[-1]])
    return name


def test_a_file_of_other_classes_or_of_a_classifier_is_refused(tmp_path: Path) -> None:
    name = "retinanet:torchvision:resnet18"
    detector = build_detector(name, 3, SMALL["retinanet"])
    other = build_detector(name, 5, SMALL["retinanet"])
    paths = [tmp_path / "five.pth", tmp_path / "backbone.pth", tmp_path / "faster.pth"]
    torch.save(other.state_dict(), paths[0])
    torch.save(other.backbone.state_dict(), paths[1])
    faster = build_detector("fasterrcnn:torchvision:resnet18", 2, SMALL["fasterrcnn"])
    torch.save(faster.state_dict(), paths[2])
    messages = (
        "has 5 columns, and the detector of 3 classes 3; say which",
        r"backbone\.pth has no weights of a Faster R-CNN, RetinaNet or FCOS",
        "is of another architecture",
    )
    for path, message in zip(paths, messages, strict=True):
        with pytest.raises(UserError, match=message):
            load_detector(detector, read_detector_file(path), name)
    with pytest.raises(UserError, match="has 5 columns, and one of COCO's categories 91 or 81"):
        load_detector(detector, read_detector_file(paths[0]), name, CATEGORIES)


def test_categories_are_cocos_numbers() -> None:
    weight = "roi_heads.box_predictor.cls_score.weight"
    torchvisions, detectron2s = {weight: torch.zeros(91, 4)}, {weight: torch.zeros(81, 4)}
    assert coco_columns(torchvisions, CATEGORIES) == CATEGORIES
    assert coco_columns(detectron2s, CATEGORIES) == [1, 17, 80]
    assert [published_categories()[number] for number in CATEGORIES] == [
        "person",
        "dog",
        "toothbrush",
    ]
    for unused in (12, 0, 91):
        with pytest.raises(UserError, match=f"COCO has no category {unused}"):
            coco_columns(torchvisions, [1, unused])
    with pytest.raises(UserError, match="has no category 91; its categories are 1 to 90"):
        restrict_classes(torchvisions, [1, 91])


def test_torchvisions_weights_are_found_by_its_names() -> None:
    name = "torchvision:fasterrcnn_resnet50_fpn"
    for weights in ("pretrained", "COCO_V1", "FasterRCNN_ResNet50_FPN_Weights.COCO_V1"):
        found = published_detector(name, weights)
        assert found is not None
        assert found.file.path.name == "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
        assert len(found.categories) == COLUMNS
    assert published_detector(name, "COCO_V7") is None
    assert published_detector("fasterrcnn:resnet8", "pretrained") is None


def test_the_first_weights_of_torchvision_have_no_epsilon() -> None:
    torch.manual_seed(0)
    ours = build_detector(
        "fasterrcnn:torchvision:resnet18", 3, SMALL["fasterrcnn"], pretrained=True
    ).double()
    for module in ours.modules():
        if isinstance(module, FrozenBatchNorm2d):
            nn.init.uniform_(module.running_var, 1e-3, 2)
    images = torch.randn(1, 3, 64, 64).double()
    remove_eps(ours)
    copied = build_detector(
        "fasterrcnn:torchvision:resnet18", 3, SMALL["fasterrcnn"], pretrained=True
    ).double()
    copied.load_state_dict(ours.state_dict())
    found = copied.feature_maps(images)
    for module in ours.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_var += 1e-5
    overwrite_eps(ours, 0.0)  # as torchvision does
    expected: tuple[Tensor, ...] = ours.feature_maps(images)
    for level, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(level, wanted)


def test_a_published_file_is_recognised_by_its_name(tmp_path: Path) -> None:
    name = "torchvision:retinanet_resnet50_fpn"
    published = published_detector(name, "pretrained")
    assert published is not None
    detector = build_detector(name, 91, pretrained=True)
    path = tmp_path / published.file.path.name
    torch.save(detector.state_dict(), path)
    variance = "backbone.body.bn1.running_var"
    before = detector.state_dict()[variance].clone()
    load_detector(detector, read_detector_file(path), name)
    torch.testing.assert_close(detector.state_dict()[variance], before - 1e-5)
    path = path.rename(tmp_path / "mine.pth")
    load_detector(detector, read_detector_file(path), name)
    assert torch.equal(detector.state_dict()[variance], before)
