from typing import Any

import pytest
import torch
from prepared_batches import (
    CLASSES,
    prepared_batch,
    torchvision_detections,
    torchvision_losses,
)
from torch import nn
from torchvision.models import get_model, resnet
from torchvision.models.detection.backbone_utils import (
    _mobilenet_extractor,
    _resnet_fpn_extractor,
)
from torchvision.ops import FrozenBatchNorm2d

from rkkd_cli.errors import UserError
from rkkd_cli.models.detection import backbone_of, build_detector, check_detector_name
from rkkd_cli.models.detection.build import TORCHVISION

SMALL: dict[str, Any] = {"out_channels": 16, "representation_size": 32}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_detectors_have_its_names_shapes_and_settings(name: str) -> None:
    with torch.device("meta"):
        detector: Any = build_detector(f"torchvision:{name}", 90)
        columns = 91 if name.startswith("faster") else 90
        theirs = get_model(name, weights=None, weights_backbone=None, num_classes=columns)
    ours, expected = detector.state_dict(), theirs.state_dict()
    assert list(ours) == list(expected)
    assert all(ours[key].shape == tensor.shape for key, tensor in expected.items())
    if name.startswith("faster"):
        for part in (detector.rpn, theirs.rpn):
            part.settings = {k: v for k, v in vars(part).items() if "nms" in k or "thresh" in k}
        assert detector.rpn.settings == theirs.rpn.settings
        assert detector.rpn.anchor_generator.sizes == theirs.rpn.anchor_generator.sizes
        assert detector.roi_heads.detections_per_img == theirs.roi_heads.detections_per_img
    else:
        assert detector.anchor_generator.sizes == theirs.anchor_generator.sizes
        for setting in ("score_thresh", "nms_thresh", "detections_per_img", "topk_candidates"):
            assert getattr(detector.network, setting) == getattr(theirs, setting)


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("fasterrcnn:torchvision:resnet18", (4, 8, 16, 32, 64)),
        ("fasterrcnn:torchvision:mobilenet_v2", (4, 8, 16, 32, 64)),
        ("fasterrcnn:torchvision:mobilenet_v3_large", (32, 32, 64)),
        ("fasterrcnn:resnet8", (2, 4, 8)),
        ("fasterrcnn:MobileNetV2", (4, 8, 16, 32)),
        ("fasterrcnn:vgg8", (4, 8, 16, 32)),
        ("fasterrcnn:timm:mobilenetv3_small_050", (4, 8, 16, 32, 64)),
        ("retinanet:torchvision:resnet18", (8, 16, 32, 64, 128)),
        ("retinanet:torchvision:mobilenet_v3_small", (8, 16, 32, 64, 128)),
        ("retinanet:resnet8", (2, 4, 8, 16)),
        ("fcos:ShuffleV2", (4, 8, 16, 32)),
    ],
)
def test_a_backbone_of_any_library_gives_a_detector_that_trains(
    name: str, strides: tuple[int, ...]
) -> None:
    options = {"out_channels": 64} if name.startswith("fcos") else {"out_channels": 16}
    detector = build_detector(name, 3, options)
    assert detector.backbone.strides == strides
    batch = prepared_batch(((64, 64), (64, 60)), torch.float32)
    detected = detector.train_outputs(*batch)
    torch.autograd.backward(list(detected.losses.values()))
    for parameter_name, parameter in detector.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name
    found = detector.eval().detect(detector.feature_maps(batch.images), batch.images, batch.sizes)
    assert len(found) == 2


def test_a_pretrained_backbone_is_frozen_as_in_torchvision() -> None:
    theirs: dict[str, nn.Module] = {
        "torchvision:resnet18": _resnet_fpn_extractor(
            resnet.resnet18(weights=None, norm_layer=FrozenBatchNorm2d), 3
        ),
        "torchvision:mobilenet_v3_large": _mobilenet_extractor(
            get_model("mobilenet_v3_large", weights=None, norm_layer=FrozenBatchNorm2d), True, 3
        ),
    }
    for backbone, expected in theirs.items():
        detector = build_detector(f"fasterrcnn:{backbone}", 3, SMALL, pretrained=True)
        body, wanted = detector.backbone.body, expected.get_submodule("body")
        assert list(body.state_dict()) == list(wanted.state_dict())
        assert [(n, p.requires_grad) for n, p in body.named_parameters()] == [
            (n, p.requires_grad) for n, p in wanted.named_parameters()
        ]
        eps = {m.eps for m in wanted.modules() if isinstance(m, FrozenBatchNorm2d)}
        assert {m.eps for m in body.modules() if isinstance(m, FrozenBatchNorm2d)} == eps


@pytest.mark.parametrize("backbone", ["resnet8", "timm:mobilenetv3_small_050"])
def test_frozen_batchnorm_computes_as_in_evaluation(backbone: str) -> None:
    torch.manual_seed(0)
    free = build_detector(f"fasterrcnn:{backbone}", 3, SMALL)
    frozen = build_detector(f"fasterrcnn:{backbone}", 3, SMALL, pretrained=True)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.backbone.body.modules())
    images = torch.randn(2, 3, 64, 64)
    free.train().feature_maps(images)  # so that the statistics are not those of the beginning
    frozen.load_state_dict(free.state_dict())
    expected = free.eval().feature_maps(images)
    for found, wanted in zip(frozen.train().feature_maps(images), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_options_are_torchvisions_arguments() -> None:
    options = {
        **SMALL,
        "anchor_sizes": [12, 24, 48],
        "anchor_scales": [1, 1.5],
        "aspect_ratios": [1.0, 2.0],
        "box_batch_size_per_image": 64,
        "box_detections_per_img": 7,
        "box_score_thresh": 0.01,
        "rpn_pre_nms_top_n_train": 200,
    }
    detector: Any = build_detector("fasterrcnn:resnet8", 3, options)
    assert detector.rpn.anchor_generator.sizes == ((12, 18), (24, 36), (48, 72))
    assert detector.rpn.head.cls_logits.out_channels == 4
    assert detector.roi_heads.fg_bg_sampler.batch_size_per_image == 64
    assert detector.roi_heads.detections_per_img == 7
    assert detector.roi_heads.score_thresh == 0.01
    assert detector.rpn._pre_nms_top_n == {"training": 200, "testing": 1000}
    one: Any = build_detector("retinanet:resnet8", 3, {"out_channels": 16, "topk_candidates": 9})
    assert one.network.topk_candidates == 9


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "resnet20",
            {},
            "model resnet20 classifies images; a detector on it is fasterrcnn:resnet20",
        ),
        ("torchvision:resnet18", {}, "a detector on it is fasterrcnn:torchvision:resnet18"),
        (
            "fasterrcn:resnet20",
            {},
            "unknown kind of detector 'fasterrcn'; did you mean 'fasterrcnn'",
        ),
        ("torchvision:fasterrcnn_resnet50", {}, "did you mean 'fasterrcnn_resnet50_fpn'"),
        ("torchvision:ssd300_vgg16", {}, "unknown detector of torchvision 'ssd300_vgg16'"),
        ("detectron2:faster_rcnn_R_50", {}, "did you mean 'faster_rcnn_R_50_FPN'"),
        ("fcos:resnet21", {}, "unknown model 'resnet21'; did you mean"),
        ("fasterrcnn:torchvision:resnet19", {}, "did you mean 'resnet1"),
        ("fasterrcnn:digits_teacher", {}, "has too few feature maps for a feature pyramid"),
        ("fcos:torchvision:vit_b_16", {}, "cannot take images of 256×320 pixels"),
        ("fasterrcnn:resnet8", {"box_score_tresh": 0.1}, "did you mean 'box_score_thresh'"),
        ("retinanet:resnet8", {"box_score_thresh": 0.1}, "unknown option of retinanet:resnet8"),
        ("torchvision:fcos_resnet50_fpn", {"out_channels": 64}, "unknown option of torchvision:"),
        ("fasterrcnn:resnet8", {"box_score_thresh": 2}, "is a number from 0 to 1, not 2"),
        ("fasterrcnn:resnet8", {"out_channels": 0}, "is a whole number from 1, not 0"),
        ("fasterrcnn:resnet8", {"out_channels": True}, "is a whole number from 1, not True"),
        ("fcos:resnet8", {"out_channels": 48}, "out_channels of FCOS is 64, 96, …, not 48"),
        ("fasterrcnn:resnet8", {"anchor_sizes": [8, 16]}, "has 2 entries, and the detector 3"),
        ("fasterrcnn:resnet8", {"anchor_sizes": 8}, "is a list of positive numbers, such as"),
        ("fasterrcnn:resnet8", {"aspect_ratios": [-1]}, "is a list of positive numbers, such as"),
        ("fasterrcnn:resnet8", {"anchor_scales": [0]}, "is a list of positive numbers, such as"),
        ("fasterrcnn:resnet8", {"rpn_bg_iou_thresh": 0.8}, "is at most rpn_fg_iou_thresh"),
        ("fasterrcnn:resnet8", {"trainable_backbone_layers": 2}, "begins with random weights"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        build_detector(name, 3, options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        ("fasterrcnn:resnet8", 2, "freezes layers of torchvision's ResNets and MobileNets only"),
        ("fasterrcnn:torchvision:resnet18", 6, "has 5 layers, not 6"),
    ],
)
def test_layers_that_cannot_be_trained_are_refused(name: str, layers: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_detector(name, 3, {"trainable_backbone_layers": layers}, pretrained=True)


def test_a_name_is_checked_without_building() -> None:
    for name in ("fcos:resnet20", "torchvision:retinanet_resnet50_fpn", "fasterrcnn:timm:resnet18"):
        check_detector_name(name)
    assert backbone_of("fcos:torchvision:resnet18") == "torchvision:resnet18"
    assert backbone_of("torchvision:fasterrcnn_resnet50_fpn_v2") == "torchvision:resnet50"
    assert backbone_of("detectron2:faster_rcnn_R_50_FPN") is None


def test_classes_and_channels_are_checked() -> None:
    with pytest.raises(ValueError, match="needs at least 1 class"):
        build_detector("fcos:resnet8", 0)
    with pytest.raises(UserError, match="take images of 3 channels, not 1"):
        build_detector("fcos:resnet8", 3, in_channels=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("fasterrcnn_resnet50_fpn_v2", 4),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", 4),
        ("retinanet_resnet50_fpn_v2", 2),
    ],
)
def test_torchvisions_detectors_give_its_losses_and_detections(name: str, terms: int) -> None:
    torch.manual_seed(0)
    two_stages = name.startswith("faster")
    few = {"box_batch_size_per_image": 16, "rpn_post_nms_top_n_test": 20} if two_stages else {}
    ours = build_detector(f"torchvision:{name}", CLASSES, few).double()
    columns = CLASSES + two_stages
    theirs = get_model(
        name, weights=None, weights_backbone=None, num_classes=columns, **few
    ).double()
    theirs.load_state_dict(ours.state_dict())
    batch = prepared_batch()
    expected = torchvision_losses(theirs, batch, first_label=columns - CLASSES)
    torch.manual_seed(1)
    losses = ours.train().train_outputs(*batch).losses
    assert len(losses) == terms
    assert sorted(losses.values()) == sorted(expected.values())
    wanted = torchvision_detections(theirs, batch)
    found = ours.eval().detect(ours.feature_maps(batch.images), batch.images, batch.sizes)
    for image, of_image in zip(found, wanted, strict=True):
        assert torch.equal(image.boxes, of_image["boxes"])
        assert torch.equal(image.scores, of_image["scores"])
