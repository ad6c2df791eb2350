"""Faster R-CNN as detectron2 computes it, so that its published weights give its detections.

Its R50-FPN and R101-FPN of the model zoo (``COCO-Detection/faster_rcnn_R_*_FPN_*``) differ from
torchvision's network in what has no weights: bottlenecks stride in their first convolution; anchors
are not rounded, and a place of a map is its nominal stride wide; RoIAlign is aligned, and takes as
many samples as a bin has pixels. What they differ in otherwise, the weights can express:
images in BGR from 0 to 255 with a deviation of 1, and columns with the background last.
Source: facebookresearch/detectron2, configs/Base-RCNN-FPN.yaml and modeling/.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops.boxes import box_area

from rkkd_cli.errors import UserError
from rkkd_cli.models.detection.detector import Detector

DETECTRON2 = {
    "faster_rcnn_R_50_FPN": "torchvision:resnet50",
    "faster_rcnn_R_101_FPN": "torchvision:resnet101",
}
CANONICAL_SIZE, CANONICAL_LEVEL = 224, 4
IMAGENET_STD = (0.229, 0.224, 0.225)  # by which our images are divided; the means are the same
PIXEL_RANGE = 255
STEM = "backbone.body.conv1.weight"

# detectron2's names, and those of torchvision's network.
BLOCK = r"backbone\.bottom_up\.res(\d)\.(\d+)\."
NAMES = (
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.", "backbone.body.bn1."),
    (r"backbone\.bottom_up\.stem\.conv1\.", "backbone.body.conv1."),
    (BLOCK + r"shortcut\.norm\.", "backbone.body.layer{}.{}.downsample.1."),
    (BLOCK + r"shortcut\.", "backbone.body.layer{}.{}.downsample.0."),
    (BLOCK + r"conv(\d)\.norm\.", "backbone.body.layer{}.{}.bn{}."),
    (BLOCK + r"conv(\d)\.", "backbone.body.layer{}.{}.conv{}."),
    (r"backbone\.fpn_lateral(\d)\.", "backbone.fpn.inner_blocks.{}.0."),
    (r"backbone\.fpn_output(\d)\.", "backbone.fpn.layer_blocks.{}.0."),
    (r"proposal_generator\.rpn_head\.conv\.", "rpn.head.conv.0.0."),
    (r"proposal_generator\.rpn_head\.objectness_logits\.", "rpn.head.cls_logits."),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.", "rpn.head.bbox_pred."),
    (r"roi_heads\.box_head\.fc1\.", "roi_heads.box_head.fc6."),
    (r"roi_heads\.box_head\.fc2\.", "roi_heads.box_head.fc7."),
    (r"roi_heads\.box_predictor\.", "roi_heads.box_predictor."),
)
FIRST_STAGE = {"layer": 1, "inner_blocks": 2, "layer_blocks": 2}  # res2 is layer1, lateral2 is 0
IS_DETECTRON2 = "backbone.bottom_up.stem.conv1.weight"
BUFFERS = ("proposal_generator.anchor_generator.", "pixel_")  # which follow from the settings
CLASS_SCORES = "roi_heads.box_predictor.cls_score."
CLASS_BOXES = "roi_heads.box_predictor.bbox_pred."


class ExactAnchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors that are not rounded, on places as wide as the nominal strides of the maps."""

    def __init__(self, sizes: Any, aspect_ratios: Any, strides: Sequence[int]) -> None:
        self.strides = tuple(strides)
        super().__init__(sizes, aspect_ratios)

    def generate_anchors(
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Return the anchors (A, 4) around 0: of each ratio height / width, of each size."""
        sizes = torch.tensor(scales, dtype=dtype, device=device)
        roots = torch.tensor(aspect_ratios, dtype=dtype, device=device).sqrt()
        widths = (sizes[None, :] / roots[:, None]).flatten()
        heights = (sizes[None, :] * roots[:, None]).flatten()
        return torch.stack([-widths, -heights, widths, heights], dim=1) / 2

    def grid_anchors(self, grid_sizes: Any, strides: Any) -> list[Tensor]:
        """Return the anchors of each map, whatever strides its rounded size suggests."""
        exact = [[torch.tensor(side), torch.tensor(side)] for side in self.strides]
        device = self.cell_anchors[0].device
        on_device = [[side.to(device) for side in pair] for pair in exact]
        anchors: list[Tensor] = super().grid_anchors(grid_sizes, on_device)
        return anchors


class AlignedRoIAlign(MultiScaleRoIAlign):  # type: ignore[misc]
    """RoIAlign whose samples are shifted by half a pixel, one for each pixel of a bin."""

    def __init__(self, names: Sequence[str], output_size: int, strides: Sequence[int]) -> None:
        super().__init__(list(names), output_size, sampling_ratio=0)
        self.strides = tuple(strides)

    def forward(
        self, x: Mapping[str, Tensor], boxes: Sequence[Tensor], image_shapes: Any
    ) -> Tensor:
        """Return the pooled maps (R, D, S, S) of boxes, each from the map of its size."""
        maps = [x[name] for name in self.featmap_names]
        places = torch.cat(list(boxes))
        images = torch.cat([box.new_full((len(box), 1), n) for n, box in enumerate(boxes)])
        rois = torch.cat([images, places], dim=1)
        scale = box_area(places).sqrt() / CANONICAL_SIZE
        levels = torch.floor(CANONICAL_LEVEL + torch.log2(scale + 1e-8))
        first = self.strides[0].bit_length() - 1
        levels = levels.clamp(first, first + len(maps) - 1) - first
        pooled = maps[0].new_zeros(len(rois), maps[0].shape[1], *self.output_size)
        for level, (feature_map, stride) in enumerate(zip(maps, self.strides, strict=True)):
            chosen = torch.where(levels == level)[0]
            of_level = roi_align(
                feature_map, rois[chosen], self.output_size, 1 / stride, 0, aligned=True
            )
            pooled = pooled.index_put((chosen,), of_level)
        return pooled


def as_detectron2(detector: Detector) -> None:
    """Let a Faster R-CNN on a ResNet-50 or 101 of torchvision compute as detectron2's."""
    network = detector.network
    for layer in ("layer2", "layer3", "layer4"):
        block = network.backbone.body[layer][0]
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    generator = network.rpn.anchor_generator
    strides = network.backbone.strides
    network.rpn.anchor_generator = ExactAnchors(generator.sizes, generator.aspect_ratios, strides)
    pool = network.roi_heads.box_roi_pool
    names = pool.featmap_names
    network.roi_heads.box_roi_pool = AlignedRoIAlign(
        names, pool.output_size[0], strides[: len(names)]
    )


def computes_as_detectron2(detector: Detector) -> bool:
    """Return whether :func:`as_detectron2` was called with the detector."""
    heads = getattr(detector, "roi_heads", None)
    return isinstance(getattr(heads, "box_roi_pool", None), AlignedRoIAlign)


def is_detectron2(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether these are weights of a network of detectron2 with a ResNet and a pyramid."""
    return IS_DETECTRON2 in tensors


def from_detectron2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return detectron2's weights under torchvision's names, for images normalised as ImageNet's.

    The background comes first, as in torchvision. Raises UserError for a name that has no place.
    """
    renamed = {
        _rename(name): tensor for name, tensor in tensors.items() if not name.startswith(BUFFERS)
    }
    # Of BGR from 0 to 255 less the mean: 255 · deviation · our pixel.
    stem = renamed[STEM].flip(1)
    std = torch.tensor(IMAGENET_STD, dtype=torch.float64)
    scaled = stem.double() * (PIXEL_RANGE * std[None, :, None, None])
    renamed[STEM] = scaled.to(stem.dtype)
    for name in [name for name in renamed if name.startswith(CLASS_SCORES)]:
        renamed[name] = renamed[name].roll(1, 0)
    for name in [name for name in renamed if name.startswith(CLASS_BOXES)]:
        background = renamed[name].new_zeros(4, *renamed[name].shape[1:])
        renamed[name] = torch.cat([background, renamed[name]])
    return renamed


def _rename(name: str) -> str:
    for pattern, theirs in NAMES:
        found = re.match(pattern, name)
        if found is None:
            continue
        numbers = [int(number) for number in found.groups()]
        if numbers:
            kind = theirs.split(".")[2].partition("{")[0]
            numbers[0] -= FIRST_STAGE[kind]
        return theirs.format(*numbers) + name[found.end() :]
    raise UserError(
        f"{name[:80]!r} has no place in a Faster R-CNN of detectron2 with a ResNet and a feature "
        "pyramid"
    )
