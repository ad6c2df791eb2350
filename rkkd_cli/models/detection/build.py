"""Detectors by name: on any backbone, and torchvision's own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn
from torchvision.models import get_model
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.models.catalogue import check_model_name
from rkkd_cli.models.detection.backbones import (
    DRY_SIZE,
    ONE_STAGE_FINEST,
    RESNET_LAYERS,
    TWO_STAGE_FINEST,
    Pyramid,
    build_pyramid,
    freeze_all_but,
    trainable_count,
)
from rkkd_cli.models.detection.detector import IN_CHANNELS, Detector, wrong_channels
from rkkd_cli.models.detection.detectron2 import DETECTRON2, as_detectron2
from rkkd_cli.models.detection.one_stage import FCOSDetector, RetinaNetDetector
from rkkd_cli.models.detection.options import check_options, make_anchors, network_options
from rkkd_cli.models.detection.two_stage import TwoStage
from rkkd_cli.models.external.options import NO_OPTIONS
from rkkd_cli.models.shapes import dry_run

KINDS = ("fasterrcnn", "retinanet", "fcos")
OUT_CHANNELS, REPRESENTATION_SIZE, POOLED_SIZE = 256, 1024, 7
RPN_SCALE, RETINANET_SCALE = 8, 4  # an anchor's side in strides of its map
OCTAVES = (1, 2 ** (1 / 3), 2 ** (2 / 3))
MOBILENET_V3_SIZES = (32, 64, 128, 256, 512)  # on each map, where two have the same stride


class Published(NamedTuple):
    """A published detector: its kind, its backbone, and the options with which it differs.

    Without a backbone here torchvision's own builder makes it.
    """

    kind: str
    backbone: str | None
    options: Mapping[str, Any] = NO_OPTIONS


RESNET50, MOBILENET_V3 = "torchvision:resnet50", "torchvision:mobilenet_v3_large"
LOW_SCORES = {"rpn_score_thresh": 0.05}
FEW = {"rpn_pre_nms_top_n_test": 150, "rpn_post_nms_top_n_test": 150}
TORCHVISION = {
    "fasterrcnn_resnet50_fpn": Published("fasterrcnn", RESNET50),
    "fasterrcnn_resnet50_fpn_v2": Published("fasterrcnn", None),
    "fasterrcnn_mobilenet_v3_large_fpn": Published("fasterrcnn", MOBILENET_V3, LOW_SCORES),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Published(
        "fasterrcnn", MOBILENET_V3, {**LOW_SCORES, **FEW}
    ),
    "retinanet_resnet50_fpn": Published("retinanet", RESNET50),
    "retinanet_resnet50_fpn_v2": Published("retinanet", None),
    "fcos_resnet50_fpn": Published("fcos", RESNET50),
}
LIBRARIES: Mapping[str, Mapping[str, Published]] = {
    "torchvision": TORCHVISION,
    "detectron2": {
        name: Published("fasterrcnn", backbone, {"rpn_post_nms_top_n_train": 1000})
        for name, backbone in DETECTRON2.items()
    },
}


def check_detector_name(name: str) -> None:
    """Raise UserError unless :func:`build_detector` knows the name. Does not build the detector."""
    source, colon, rest = name.partition(":")
    if colon and source in KINDS:
        check_model_name(rest)
        return
    published = LIBRARIES.get(source, {})
    if colon and rest in published:
        return
    if _is_classifier(name):
        forms = " or ".join(f"{kind}:{name}" for kind in KINDS)
        raise UserError(f"model {name} classifies images; a detector on it is {forms}")
    if colon and published:
        raise unknown_name(f"detector of {source}", rest, published)
    error = unknown_name("kind of detector", source, (*KINDS, *LIBRARIES))
    raise UserError(f"{error}; a detector is named fasterrcnn:BACKBONE or torchvision:NAME")


def _is_classifier(name: str) -> bool:
    try:
        check_model_name(name)
    except UserError:
        return False
    return True


def backbone_of(name: str) -> str | None:
    """Return the model whose weights a detector's backbone can begin with, if it has one."""
    source, _, rest = name.partition(":")
    if source == "torchvision":
        return TORCHVISION[rest].backbone or RESNET50
    return None if source in LIBRARIES else rest


def build_detector(
    name: str,
    num_classes: int,
    options: Mapping[str, Any] = NO_OPTIONS,
    *,
    in_channels: int = IN_CHANNELS,
    pretrained: bool = False,
) -> Detector:
    """Return a detector with random weights, drawn from torch's global generator.

    Args:
        name: ``fasterrcnn:BACKBONE``, ``retinanet:BACKBONE`` or ``fcos:BACKBONE`` with a model as
            :func:`rkkd_cli.models.build_model` takes it; ``torchvision:NAME`` for one of
            torchvision's; ``detectron2:NAME`` for a Faster R-CNN that computes as detectron2's.
        num_classes: C, without background.
        options: arguments of torchvision's networks, as in
            :mod:`rkkd_cli.models.detection.options`. The defaults are torchvision's.
        in_channels: those of the images.
        pretrained: published weights will be loaded, of the detector or of its backbone. As in
            torchvision, BatchNorm of the backbone is frozen then, and its first layers as well.

    Raises:
        ValueError: ``num_classes`` is below 1.
        UserError (a ValueError): an unknown name or option, a backbone that gives no pyramid, or
            images of another number of channels than three.

    """
    if num_classes < 1:
        raise ValueError(f"{name} needs at least 1 class")
    if in_channels != IN_CHANNELS:
        raise wrong_channels(in_channels)
    check_detector_name(name)
    source, _, rest = name.partition(":")
    published = LIBRARIES[source][rest] if source in LIBRARIES else None
    kind = published.kind if published else source
    check_options(name, kind, options, is_published=published is not None)
    if published is None:
        return _on_backbone(kind, rest, num_classes, options, pretrained)
    if published.backbone is None:
        return _by_torchvision(kind, rest, num_classes, options, pretrained)
    merged = {**published.options, **options}
    detector = _on_backbone(kind, published.backbone, num_classes, merged, pretrained)
    if source == "detectron2":
        as_detectron2(detector)
    return detector


def _on_backbone(
    kind: str, backbone: str, classes: int, options: Mapping[str, Any], pretrained: bool
) -> Detector:
    width = options.get("out_channels", OUT_CHANNELS)
    two_stages = kind == "fasterrcnn"
    pyramid = build_pyramid(
        backbone,
        TWO_STAGE_FINEST if two_stages else ONE_STAGE_FINEST,
        width,
        LastLevelMaxPool() if two_stages else LastLevelP6P7(width, width),
        pretrained,
        options.get("trainable_backbone_layers"),
    )
    further = network_options(kind, options)
    if kind == "fasterrcnn":
        return TwoStage(_faster_rcnn(pyramid, classes, options, further), classes)
    if kind == "retinanet":
        anchors = make_anchors(options, _retinanet_sizes(pyramid.strides))
        retinanet = RetinaNet(pyramid, classes, anchor_generator=anchors, **further)
        return RetinaNetDetector(retinanet, classes, pyramid.strides)
    anchors = AnchorGenerator(
        tuple((stride,) for stride in pyramid.strides), ((1.0,),) * len(pyramid.strides)
    )
    fcos = FCOS(pyramid, classes, anchor_generator=anchors, **further)
    return FCOSDetector(fcos, classes, pyramid.strides)


def _faster_rcnn(
    pyramid: Pyramid, classes: int, options: Mapping[str, Any], further: Mapping[str, Any]
) -> nn.Module:
    representation = options.get("representation_size", REPRESENTATION_SIZE)
    network: nn.Module = FasterRCNN(
        pyramid,
        rpn_anchor_generator=make_anchors(options, _rpn_sizes(pyramid.strides)),
        box_head=TwoMLPHead(pyramid.out_channels * POOLED_SIZE**2, representation),
        box_predictor=FastRCNNPredictor(representation, classes + 1),
        **further,
    )
    return network


def _by_torchvision(
    kind: str, name: str, classes: int, options: Mapping[str, Any], pretrained: bool
) -> Detector:
    """Return a second version of torchvision, whose BatchNorm is never frozen."""
    columns = classes + 1 if kind == "fasterrcnn" else classes
    network = get_model(
        name,
        weights=None,
        weights_backbone=None,
        num_classes=columns,
        **network_options(kind, options),
    )
    trainable = trainable_count(
        name, RESNET_LAYERS, pretrained, options.get("trainable_backbone_layers")
    )
    freeze_all_but(network.backbone.body, RESNET_LAYERS, trainable)
    if kind == "fasterrcnn":
        return TwoStage(network, classes)
    maps = dry_run(network.backbone, network.backbone.forward, (2, IN_CHANNELS, *DRY_SIZE))
    strides = [DRY_SIZE[0] // level.shape[2] for level in maps.values()]
    return RetinaNetDetector(network, classes, strides)


def _rpn_sizes(strides: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    if len(set(strides)) < len(strides):
        return (MOBILENET_V3_SIZES,) * len(strides)
    return tuple((RPN_SCALE * stride,) for stride in strides)


def _retinanet_sizes(strides: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    return tuple(
        tuple(int(RETINANET_SCALE * stride * octave) for octave in OCTAVES) for stride in strides
    )
