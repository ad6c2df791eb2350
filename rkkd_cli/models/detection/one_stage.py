"""RetinaNet (arXiv 1708.02002) and FCOS (arXiv 1904.01355), on torchvision's parts."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

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


class OneStage(Detector):
    """A detector that classifies every anchor. Its rows are the anchors of objects.

    Only a detector with the same anchors can read its places, which are numbers of anchors.
    """

    head: Any
    anchor_generator: Any
    terms: ClassVar[Mapping[str, str]]  # our names of the losses, and the head's

    def __init__(self, network: nn.Module, num_classes: int, strides: Sequence[int]) -> None:
        super().__init__(network, num_classes)
        self.term_names = tuple(self.terms)
        generator = self.anchor_generator
        self.region_space = (
            "anchors",
            tuple(strides),
            tuple(tuple(sizes) for sizes in generator.sizes),
            tuple(tuple(ratios) for ratios in generator.aspect_ratios),
        )

    def train_outputs(
        self, images: Tensor, sizes: Sizes, objects: Sequence[ImageObjects]
    ) -> DetectorOutputs:
        """Return the logits (R, C) of the anchors of objects, and torchvision's losses."""
        maps = self.feature_maps(images)
        targets = self._targets(objects, images, first=0)
        anchors = anchors_of(self.anchor_generator, images, maps, sizes)
        outputs = self._head_outputs(maps)
        matched = self._match(targets, anchors, maps)
        computed = self.head.compute_loss(targets, outputs, anchors, matched)
        losses = {name: computed[theirs] for name, theirs in self.terms.items()}
        regions = self._foreground(targets, matched)
        logits = _rows(outputs["cls_logits"], regions.places)
        return DetectorOutputs(maps, logits.new_empty(len(logits), 0), logits, regions, losses)

    @torch.no_grad()
    def propose(
        self,
        images: Tensor,
        maps: Sequence[Tensor],
        sizes: Sizes,
        objects: Sequence[ImageObjects],
        count: int | None = None,
    ) -> Regions:
        """Return the anchors of objects; or those with the best score of any class."""
        targets = self._targets(objects, images, first=0)
        anchors = anchors_of(self.anchor_generator, images, maps, sizes)
        matched = self._match(targets, anchors, maps)
        if count is None:
            return self._foreground(targets, matched)
        best = self._scores(self._head_outputs(maps)).amax(dim=2)
        places = best.topk(min(count, best.shape[1]), dim=1).indices.unbind()
        labels = [
            self._labels(target, match[place])
            for target, match, place in zip(targets, matched, places, strict=True)
        ]
        return Regions(tuple(places), torch.cat(labels))

    def at_regions(
        self, maps: Sequence[Tensor], regions: Regions, sizes: Sizes, images: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return nothing (R, 0) as pooled features, and the logits (R, C) of anchors."""
        logits = _rows(in_full(self.head.classification_head(list(maps))), regions.places)
        return logits.new_empty(len(logits), 0), logits

    @torch.no_grad()
    def detect(self, maps: Sequence[Tensor], images: Tensor, sizes: Sizes) -> list[Detections]:
        """Return the detections above the score threshold, after suppression within each class."""
        anchors = anchors_of(self.anchor_generator, images, maps, sizes)
        outputs = self._head_outputs(maps)
        per_level = self._per_level(maps)
        levels = {
            name: list(torch.split(output, per_level, dim=1)) for name, output in outputs.items()
        }
        anchors_by_level = [list(torch.split(image, per_level)) for image in anchors]
        found = self.network.postprocess_detections(levels, anchors_by_level, list(sizes))
        return [Detections(image["boxes"], image["labels"], image["scores"]) for image in found]

    def _head_outputs(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        return {name: in_full(output) for name, output in self.head(list(maps)).items()}

    def _per_level(self, maps: Sequence[Tensor]) -> list[int]:
        """Return how many anchors of an image each map has."""
        at_a_place = self.anchor_generator.num_anchors_per_location()
        return [
            level.shape[2] * level.shape[3] * count
            for level, count in zip(maps, at_a_place, strict=True)
        ]

    def _match(
        self, targets: Targets, anchors: list[Tensor], maps: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return for each image's anchors (A,) the number of their object, negative for none.

        torchvision matches where it computes the loss, and hands the matches to its head. A
        stand-in for the head returns them.
        """
        head = SimpleNamespace(compute_loss=lambda *arguments: arguments[-1])
        matcher = SimpleNamespace(**{**vars(self.network), "head": head})
        matched: list[Tensor] = type(self.network).compute_loss(
            matcher, targets, {}, anchors, *self._matching_arguments(maps)
        )
        return matched

    def _matching_arguments(self, maps: Sequence[Tensor]) -> tuple[Any, ...]:
        return ()

    def _foreground(self, targets: Targets, matched: list[Tensor]) -> Regions:
        places = tuple(torch.where(match >= 0)[0] for match in matched)
        labels = [
            self._labels(target, match[place])
            for target, match, place in zip(targets, matched, places, strict=True)
        ]
        return Regions(places, torch.cat(labels))

    def _labels(self, target: dict[str, Tensor], matched: Tensor) -> Tensor:
        """Return the class of each matched object, C where there is none."""
        background = target["labels"].new_full((1,), self.num_classes)
        return torch.cat([target["labels"], background])[matched.clamp(min=-1)]

    def _scores(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return the score of each anchor and class, (B, A, C)."""
        return outputs["cls_logits"].sigmoid()


class RetinaNetDetector(OneStage):
    """A RetinaNet of torchvision with C columns, one for each class."""

    terms: ClassVar[Mapping[str, str]] = {"ce": "classification", "box": "bbox_regression"}


class FCOSDetector(OneStage):
    """An FCOS of torchvision with C columns; its anchors are the places of the maps."""

    terms: ClassVar[Mapping[str, str]] = {
        "ce": "classification",
        "box": "bbox_regression",
        "centerness": "bbox_ctrness",
    }

    def _matching_arguments(self, maps: Sequence[Tensor]) -> tuple[Any, ...]:
        return (self._per_level(maps),)

    def _scores(self, outputs: Mapping[str, Tensor]) -> Tensor:
        return (super()._scores(outputs) * outputs["bbox_ctrness"].sigmoid()).sqrt()


def _rows(logits: Tensor, places: Sequence[Tensor]) -> Tensor:
    """Return the rows (R, C) of the logits (B, A, C) at numbers of anchors."""
    return torch.cat([image[place] for image, place in zip(logits, places, strict=True)])
