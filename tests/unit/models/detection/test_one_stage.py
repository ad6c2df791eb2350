import copy
from typing import Any

import pytest
import torch
from prepared_batches import (
    CLASSES,
    PreparedBatch,
    gradients,
    prepared_batch,
    torchvision_detections,
    torchvision_losses,
)
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from rkkd_cli.models.detection import Detector, build_detector

WIDTH = 64  # torchvision's is 256
NAMES = {
    "retinanet": {"ce": "classification", "box": "bbox_regression"},
    "fcos": {"ce": "classification", "box": "bbox_regression", "centerness": "bbox_ctrness"},
}
NETWORKS = {"retinanet": RetinaNet, "fcos": FCOS}


@pytest.fixture(scope="module")
def batch() -> PreparedBatch:
    return prepared_batch()


@pytest.fixture(scope="module", params=NETWORKS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def trained(kind: str) -> Detector:
    """A detector with scores around one half, and not all alike."""
    torch.manual_seed(0)
    options = {"out_channels": WIDTH}
    detector = build_detector(f"{kind}:torchvision:resnet18", CLASSES, options).double()
    head = detector.get_submodule("head.classification_head.cls_logits")
    assert isinstance(head, nn.Conv2d)
    nn.init.normal_(head.weight, std=1.0)
    assert head.bias is not None
    nn.init.zeros_(head.bias)
    return detector


@pytest.fixture
def detector(trained: Detector) -> Detector:
    return copy.deepcopy(trained)


@pytest.fixture
def theirs(kind: str, trained: Detector) -> nn.Module:
    layers = {f"layer{layer}": str(layer - 2) for layer in (2, 3, 4)}
    extra = LastLevelP6P7(WIDTH, WIDTH)
    backbone = BackboneWithFPN(resnet18(weights=None), layers, [128, 256, 512], WIDTH, extra)
    network: nn.Module = NETWORKS[kind](backbone, CLASSES).double()
    network.load_state_dict(trained.state_dict())
    return network


def test_losses_and_gradients_are_torchvisions(
    kind: str, detector: Detector, theirs: Any, batch: PreparedBatch
) -> None:
    expected = torchvision_losses(theirs, batch, first_label=0)
    detector.train()
    detected = detector.train_outputs(*batch)
    assert tuple(detected.losses) == detector.term_names == tuple(NAMES[kind])
    for ours, name in NAMES[kind].items():
        assert torch.equal(detected.losses[ours], expected[name]), ours
    wanted = gradients(theirs, expected)
    found = gradients(detector, detected.losses)
    for name, gradient in wanted.items():
        assert gradient is not None
        assert torch.equal(found[name], gradient), name  # type: ignore[arg-type]


def test_the_anchors_of_objects_give_the_same_logits_again(
    detector: Detector, batch: PreparedBatch
) -> None:
    detected = detector.train_outputs(*batch)
    pooled, logits = detector.at_regions(detected.maps, detected.regions, batch.sizes, batch.images)
    assert torch.equal(logits, detected.logits)
    assert logits.shape == (len(detected.regions.labels), CLASSES)
    assert pooled.shape == detected.pooled.shape == (len(logits), 0)
    assert len(detected.regions.places[-1]) == 0  # the image without objects
    assert len(logits) > 3


def test_rows_are_anchors_of_objects_of_their_class(kind: str, batch: PreparedBatch) -> None:
    detector: Any = build_detector(f"{kind}:torchvision:resnet18", CLASSES, {"out_channels": WIDTH})
    regions = detector.double().train_outputs(*batch).regions
    maps = list(detector.feature_maps(batch.images))
    anchors = detector.anchor_generator(ImageList(batch.images, list(batch.sizes)), maps)
    row = 0
    for image, places in enumerate(regions.places):
        for place in places:
            overlaps = box_iou(anchors[image][place][None], batch.objects[image].boxes.double())[0]
            of_class = overlaps[batch.objects[image].labels == regions.labels[row]]
            assert of_class.max() > 0
            row += 1


def test_detections_are_torchvisions(detector: Detector, theirs: Any, batch: PreparedBatch) -> None:
    expected = torchvision_detections(theirs, batch)
    detector.eval()
    found = detector.detect(detector.feature_maps(batch.images), batch.images, batch.sizes)
    assert sum(len(image.labels) for image in found) > 10
    for image, wanted in zip(found, expected, strict=True):
        for ours, theirs_ in zip(image, (wanted[k] for k in image._fields), strict=True):
            assert torch.equal(ours, theirs_)


def test_a_teacher_proposes_anchors_of_objects_or_its_best(
    detector: Detector, batch: PreparedBatch
) -> None:
    detector.eval()
    maps = detector.feature_maps(batch.images)
    arguments = batch.images, maps, batch.sizes, batch.objects
    trained_on = detector.train_outputs(*batch).regions
    own = detector.propose(*arguments)
    assert torch.equal(own.labels, trained_on.labels)
    best = detector.propose(*arguments, count=7)
    assert [len(places) for places in best.places] == [7, 7, 7]
    assert (best.labels[-7:] == CLASSES).all()
    inside = dict(
        zip(own.places[1].tolist(), own.labels[len(own.places[0]) :].tolist(), strict=True)
    )
    for place, label in zip(best.places[1].tolist(), best.labels[7:14].tolist(), strict=True):
        assert label == inside.get(place, CLASSES)


def test_only_the_same_anchors_can_be_read(kind: str, detector: Detector) -> None:
    same = build_detector(f"{kind}:torchvision:mobilenet_v2", 2, {"out_channels": WIDTH})
    finer = build_detector(f"{kind}:resnet8", 2, {"out_channels": WIDTH})
    assert same.region_space == detector.region_space
    assert finer.region_space != detector.region_space


def test_bfloat16_keeps_boxes_exact(detector: Detector) -> None:
    batch = prepared_batch(((64, 600), (64, 640)), torch.float32)
    detector.float().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        detected = detector.train_outputs(*batch)
        found = detector.detect(detected.maps, batch.images, batch.sizes)
    assert all(loss.dtype == torch.float32 for loss in detected.losses.values())
    assert bool(torch.isfinite(torch.stack(list(detected.losses.values()))).all())
    boxes = torch.cat([image.boxes for image in found])
    assert boxes.dtype == torch.float32
    assert not torch.equal(boxes, boxes.bfloat16().float())


def test_a_batch_without_objects_has_no_rows(detector: Detector, batch: PreparedBatch) -> None:
    detected = detector.train_outputs(batch.images[2:], batch.sizes[2:], batch.objects[2:])
    assert detected.logits.shape == (0, CLASSES)
    assert bool(torch.isfinite(detected.losses["ce"]))
    assert detected.losses["box"] == 0
