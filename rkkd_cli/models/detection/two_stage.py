"""Faster R-CNN with a feature pyramid (arXiv 1506.01497, 1612.03144), on torchvision's parts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import concat_box_prediction_layers

from rkkd_cli.models.detection.detector import (
    Detections,
    Detector,
    DetectorOutputs,
    ImageObjects,
    Regions,
    Sizes,
    anchors_of,
    in_full,
)

Targets = list[dict[str, Tensor]]


class AnchorOutputs(NamedTuple):
    """What the region proposal network says of all anchors of a batch, those of an image together.

    ``objectness`` (A, 1), ``deltas`` (A, 4); ``anchors`` of each image; ``per_level``: how many
    anchors of an image each map has.
    """

    objectness: Tensor
    deltas: Tensor
    anchors: list[Tensor]
    per_level: list[int]


class TwoStage(Detector):
    """A Faster R-CNN of torchvision. Its places are boxes, so any other can read them.

    torchvision's label 0 is the background; here it is the last one, C.
    """

    term_names = ("ce", "box", "rpn_objectness", "rpn_box")
    region_space = ("boxes",)
    rpn: Any
    roi_heads: Any

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__(network, num_classes)
        levels = len(self.backbone.fpn.inner_blocks)
        self.map_names = (*(str(level) for level in range(levels)), "pool")

    def train_outputs(
        self, images: Tensor, sizes: Sizes, objects: Sequence[ImageObjects]
    ) -> DetectorOutputs:
        """Return logits of the sampled regions and the four losses, as torchvision's training."""
        maps = self.feature_maps(images)
        targets = self._targets(objects, images, first=1)
        outputs = self._anchor_outputs(images, maps, sizes)
        proposals = self._filter(outputs, sizes, training=True)
        rpn_objectness, rpn_box = self._rpn_losses(outputs, targets)
        boxes, _, labels, box_targets = self.roi_heads.select_training_samples(proposals, targets)
        pooled = self._pool(maps, boxes, images)
        logits, deltas = (in_full(output) for output in self.roi_heads.box_predictor(pooled))
        ce, box = fastrcnn_loss(logits, deltas, labels, box_targets)
        losses = {"ce": ce, "box": box, "rpn_objectness": rpn_objectness, "rpn_box": rpn_box}
        regions = Regions(tuple(boxes), self._from_one(torch.cat(labels)))
        return DetectorOutputs(maps, pooled, background_last(logits), regions, losses)

    @torch.no_grad()
    def propose(
        self,
        images: Tensor,
        maps: Sequence[Tensor],
        sizes: Sizes,
        objects: Sequence[ImageObjects],
        count: int | None = None,
    ) -> Regions:
        """Return sampled regions, with the objects' own boxes; or the best proposals alone."""
        targets = self._targets(objects, images, first=1)
        outputs = self._anchor_outputs(images, maps, sizes)
        proposals = self._filter(outputs, sizes, training=count is None)
        if count is None:
            boxes, _, labels, _ = self.roi_heads.select_training_samples(proposals, targets)
        else:
            boxes = [image[:count] for image in proposals]
            _, labels = self.roi_heads.assign_targets_to_proposals(
                boxes, [t["boxes"] for t in targets], [t["labels"] for t in targets]
            )
        # Between the thresholds of foreground and background torchvision says -1.
        return Regions(tuple(boxes), self._from_one(torch.cat(labels).clamp(min=0)))

    def at_regions(
        self, maps: Sequence[Tensor], regions: Regions, sizes: Sizes, images: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the box head's features (R, D) and the logits (R, C + 1) of boxes."""
        pooled = self._pool(maps, regions.places, images)
        logits = in_full(self.roi_heads.box_predictor.cls_score(pooled))
        return pooled, background_last(logits)

    @torch.no_grad()
    def detect(self, maps: Sequence[Tensor], images: Tensor, sizes: Sizes) -> list[Detections]:
        """Return the detections above the score threshold, after suppression within each class."""
        outputs = self._anchor_outputs(images, maps, sizes)
        proposals = self._filter(outputs, sizes, training=False)
        predicted = self.roi_heads.box_predictor(self._pool(maps, proposals, images))
        logits, deltas = (in_full(output) for output in predicted)
        found = self.roi_heads.postprocess_detections(logits, deltas, proposals, list(sizes))
        return [
            Detections(boxes, labels - 1, scores)
            for boxes, scores, labels in zip(*found, strict=True)
        ]

    def _anchor_outputs(
        self, images: Tensor, maps: Sequence[Tensor], sizes: Sizes
    ) -> AnchorOutputs:
        objectness, deltas = self.rpn.head(list(maps))
        per_level = [level[0].numel() for level in objectness]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        anchors = anchors_of(self.rpn.anchor_generator, images, maps, sizes)
        return AnchorOutputs(in_full(objectness), in_full(deltas), anchors, per_level)

    def _filter(self, outputs: AnchorOutputs, sizes: Sizes, training: bool) -> list[Tensor]:
        """Return each image's best proposals (P, 4), without gradient, best first."""
        boxes = self.rpn.box_coder.decode(outputs.deltas.detach(), outputs.anchors)
        boxes = boxes.view(len(outputs.anchors), -1, 4)
        with _counts_of(self.rpn, training):
            proposals, _ = self.rpn.filter_proposals(
                boxes, outputs.objectness, list(sizes), outputs.per_level
            )
        return list(proposals)

    def _rpn_losses(self, outputs: AnchorOutputs, targets: Targets) -> tuple[Tensor, Tensor]:
        labels, matched = self.rpn.assign_targets_to_anchors(outputs.anchors, targets)
        box_targets = self.rpn.box_coder.encode(matched, outputs.anchors)
        objectness, box = self.rpn.compute_loss(
            outputs.objectness, outputs.deltas, labels, box_targets
        )
        return objectness, box

    def _pool(self, maps: Sequence[Tensor], boxes: Sequence[Tensor], images: Tensor) -> Tensor:
        """Return the box head's features (R, D).

        torchvision infers the maps' strides from the images of its first batch, without their
        padding, and keeps them. With the padding the ratios are whole, of any batch.
        """
        features = dict(zip(self.map_names, map(in_full, maps), strict=True))
        padded = [(images.shape[2], images.shape[3])] * len(images)
        pooled = self.roi_heads.box_roi_pool(features, list(boxes), padded)
        features_of_boxes: Tensor = self.roi_heads.box_head(pooled)
        return features_of_boxes

    def _from_one(self, labels: Tensor) -> Tensor:
        """Return torchvision's labels, 0 for the background, as ours, C for it."""
        return (labels - 1) % (self.num_classes + 1)


def background_last(logits: Tensor) -> Tensor:
    """Return logits whose first column is the background with that column at the end."""
    return torch.cat([logits[:, 1:], logits[:, :1]], dim=1)


@contextmanager
def _counts_of(rpn: Any, training: bool) -> Iterator[None]:
    """Let the proposal network keep as many proposals as in training, or as in testing.

    It chooses by its mode; its layers keep theirs.
    """
    before = rpn.training
    rpn.training = training
    try:
        yield
    finally:
        rpn.training = before
