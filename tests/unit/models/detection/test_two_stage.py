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
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList

from rkkd_cli.errors import UserError
from rkkd_cli.models.detection import Regions, build_detector

NAMES = {
    "ce": "loss_classifier",
    "box": "loss_box_reg",
    "rpn_objectness": "loss_objectness",
    "rpn_box": "loss_rpn_box_reg",
}
WIDTH, FEATURES = 32, 64  # torchvision's are 256 and 1024
NETWORK = {"box_batch_size_per_image": 32, "rpn_post_nms_top_n_train": 50}
OPTIONS = {**NETWORK, "out_channels": WIDTH, "representation_size": FEATURES}


@pytest.fixture(scope="module")
def batch() -> PreparedBatch:
    return prepared_batch()


@pytest.fixture(scope="module")
def trained() -> Any:
    """A detector whose random weights are as different from each other as trained ones."""
    torch.manual_seed(0)
    detector: Any = build_detector("fasterrcnn:torchvision:resnet18", CLASSES, OPTIONS).double()
    for parameter in detector.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.1)
    nn.init.normal_(detector.roi_heads.box_predictor.cls_score.weight, std=0.5)
    nn.init.normal_(detector.rpn.head.cls_logits.weight, std=0.5)
    return detector


@pytest.fixture
def detector(trained: Any) -> Any:
    return copy.deepcopy(trained)


@pytest.fixture
def theirs(trained: Any) -> nn.Module:
    layers = {f"layer{layer}": str(layer - 1) for layer in (1, 2, 3, 4)}
    backbone = BackboneWithFPN(resnet18(weights=None), layers, [64, 128, 256, 512], WIDTH)
    network: nn.Module = FasterRCNN(
        backbone,
        box_head=TwoMLPHead(WIDTH * 49, FEATURES),
        box_predictor=FastRCNNPredictor(FEATURES, CLASSES + 1),
        **NETWORK,
    ).double()
    network.load_state_dict(trained.state_dict())
    return network


def test_losses_and_gradients_are_torchvisions_on_the_same_draws(
    detector: Any, theirs: Any, batch: PreparedBatch
) -> None:
    expected = torchvision_losses(theirs, batch, first_label=1)
    detector.train()
    torch.manual_seed(1)
    detected = detector.train_outputs(*batch)
    assert tuple(detected.losses) == detector.term_names
    for ours, name in NAMES.items():
        assert torch.equal(detected.losses[ours], expected[name]), ours
    wanted = gradients(theirs, expected)
    found = gradients(detector, detected.losses)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert gradient is not None
        assert torch.equal(found[name], gradient), name  # type: ignore[arg-type]


def test_its_regions_give_the_same_logits_again(detector: Any, batch: PreparedBatch) -> None:
    torch.manual_seed(1)
    detected = detector.train_outputs(*batch)
    pooled, logits = detector.at_regions(detected.maps, detected.regions, batch.sizes, batch.images)
    assert torch.equal(pooled, detected.pooled)
    assert torch.equal(logits, detected.logits)
    assert logits.shape == (len(detected.regions.labels), CLASSES + 1)


def test_the_background_is_the_last_column_and_label(detector: Any, batch: PreparedBatch) -> None:
    detected = detector.train_outputs(*batch)
    labels = detected.regions.labels
    rows = [len(places) for places in detected.regions.places]
    assert set(labels.tolist()) <= set(range(CLASSES + 1))
    assert (labels[-rows[-1] :] == CLASSES).all()  # of the image without objects
    assert (labels < CLASSES).sum() >= sum(len(o.labels) for o in batch.objects)
    ce = nn.functional.cross_entropy(detected.logits, labels)
    torch.testing.assert_close(ce, detected.losses["ce"])


def test_detections_are_torchvisions(detector: Any, theirs: Any, batch: PreparedBatch) -> None:
    expected = torchvision_detections(theirs, batch)
    detector.eval()
    maps = detector.feature_maps(batch.images)
    found = detector.detect(maps, batch.images, batch.sizes)
    assert sum(len(image.labels) for image in found) > 10
    for image, wanted in zip(found, expected, strict=True):
        assert torch.equal(image.boxes, wanted["boxes"])
        assert torch.equal(image.labels, wanted["labels"] - 1)
        assert torch.equal(image.scores, wanted["scores"])


def test_a_teacher_samples_regions_as_in_training(
    detector: Any, theirs: Any, batch: PreparedBatch
) -> None:
    theirs.eval()
    theirs.rpn.training = True  # with as many proposals as in training
    targets = [{"boxes": o.boxes.double(), "labels": o.labels + 1} for o in batch.objects]
    images = ImageList(batch.images, list(batch.sizes))
    proposals, _ = theirs.rpn(images, theirs.backbone(batch.images), targets)
    torch.manual_seed(2)
    boxes, _, labels, _ = theirs.roi_heads.select_training_samples(proposals, targets)

    detector.eval()
    maps = detector.feature_maps(batch.images)
    torch.manual_seed(2)
    regions = detector.propose(batch.images, maps, batch.sizes, batch.objects)
    for found, expected in zip(regions.places, boxes, strict=True):
        assert torch.equal(found, expected)
    expected_labels = torch.cat(labels)
    assert torch.equal(regions.labels < CLASSES, expected_labels > 0)
    assert torch.equal(
        regions.labels[expected_labels > 0], expected_labels[expected_labels > 0] - 1
    )
    assert not any(module.training for module in detector.modules())


def test_its_best_proposals_need_no_draw_and_are_labelled(
    detector: Any, batch: PreparedBatch
) -> None:
    detector.train()
    maps = detector.feature_maps(batch.images)
    before = torch.get_rng_state()
    five = detector.propose(batch.images, maps, batch.sizes, batch.objects, count=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert [len(places) for places in five.places] == [5, 5, 5]
    more = detector.propose(batch.images, maps, batch.sizes, batch.objects, count=9)
    assert all(torch.equal(a, b[:5]) for a, b in zip(five.places, more.places, strict=True))
    assert (more.labels[-9:] == CLASSES).all()
    assert detector.rpn.training


def test_regions_of_another_detector_are_read(batch: PreparedBatch, detector: Any) -> None:
    other = build_detector("fasterrcnn:resnet8", CLASSES, {"out_channels": 8}).double()
    assert other.region_space == detector.region_space
    regions = detector.train_outputs(*batch).regions
    maps = other.feature_maps(batch.images)
    _, logits = other.at_regions(maps, regions, batch.sizes, batch.images)
    assert logits.shape == (len(regions.labels), CLASSES + 1)


def test_an_image_may_have_no_region(detector: Any, batch: PreparedBatch) -> None:
    maps = detector.feature_maps(batch.images)
    none = torch.zeros(0, 4).double()
    some = torch.tensor([[0.0, 0, 30, 30], [5, 5, 60, 40]]).double()
    for places in ((none, some, none), (none,) * 3):
        regions = Regions(places, torch.zeros(sum(map(len, places))).long())
        pooled, logits = detector.at_regions(maps, regions, batch.sizes, batch.images)
        assert logits.shape == (len(regions.labels), CLASSES + 1)
        assert pooled.shape == (len(regions.labels), FEATURES)


def test_a_copy_shares_nothing(detector: Any, batch: PreparedBatch) -> None:
    copied = copy.deepcopy(detector)
    torch.manual_seed(1)
    before = detector.train_outputs(*batch).losses
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    torch.manual_seed(1)
    after = detector.train_outputs(*batch).losses
    assert all(torch.equal(after[name], loss) for name, loss in before.items())
    assert copied.network.backbone is copied.backbone


def test_the_first_batch_does_not_decide_how_later_ones_are_pooled(detector: Any) -> None:
    # 40 of 64 pixels: torchvision would infer a stride of 2 of its finest map, and keep it.
    narrow, wide = prepared_batch(((40, 40), (36, 40))), prepared_batch()
    fresh = copy.deepcopy(detector).eval()
    detector.eval()
    detector.detect(detector.feature_maps(narrow.images), narrow.images, narrow.sizes)
    found = [
        one.detect(one.feature_maps(wide.images), wide.images, wide.sizes)
        for one in (detector, fresh)
    ]
    for seasoned, new in zip(*found, strict=True):
        assert torch.equal(seasoned.boxes, new.boxes)
    assert detector.roi_heads.box_roi_pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def test_bfloat16_keeps_boxes_exact(detector: Any) -> None:
    batch = prepared_batch(((64, 600), (64, 640)), torch.float32)
    detector.float().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        detected = detector.train_outputs(*batch)
        _, logits = detector.at_regions(detected.maps, detected.regions, batch.sizes, batch.images)
        found = detector.detect(detected.maps, batch.images, batch.sizes)
    assert detected.maps[0].dtype == torch.bfloat16
    boxes = torch.cat(detected.regions.places)
    assert boxes.dtype == torch.float32
    assert not torch.equal(boxes, boxes.bfloat16().float())
    assert torch.equal(logits, detected.logits)
    assert all(loss.dtype == torch.float32 for loss in detected.losses.values())
    torch.autograd.backward(list(detected.losses.values()))
    assert all(image.boxes.dtype == torch.float32 for image in found)


def test_a_class_number_outside_is_refused(detector: Any, batch: PreparedBatch) -> None:
    objects = [batch.objects[0]._replace(labels=batch.objects[0].labels + CLASSES)]
    with pytest.raises(UserError, match=r"class number \d, and the detector has 3 classes"):
        detector.train_outputs(batch.images[:1], batch.sizes[:1], objects)


def test_images_have_three_channels(detector: Any, batch: PreparedBatch) -> None:
    with pytest.raises(UserError, match="take images of 3 channels, not 1; repeat a grey channel"):
        detector.feature_maps(batch.images[:, :1])
