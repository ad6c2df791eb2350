"""The interface of every detector: what it gives in training, at given regions, and as detections.

Shapes: B batch; R regions of a whole batch, those of one image after those of another; C classes,
numbered from 0, without background; N objects of an image; images (B, 3, H, W), normalised and
padded at the right and bottom; sizes, the (height, width) of each image without its padding.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from rkkd_cli.errors import UserError
from rkkd_cli.models.features import Classifier, Features

Sizes = Sequence[tuple[int, int]]
HALF = (torch.float16, torch.bfloat16)
IN_CHANNELS = 3
REGIONS_OF_AN_IMAGE = 100  # of an image whose objects are not known


class ImageObjects(Protocol):
    """The objects of one image: boxes (N, 4) in pixels, labels (N,) from 0."""

    @property
    def boxes(self) -> Tensor:
        """x0, y0, x1, y1."""

    @property
    def labels(self) -> Tensor:
        """Class numbers, int64."""


class NoObjects(NamedTuple):
    """The objects of an image of which none is known."""

    boxes: Tensor
    labels: Tensor


class Regions(NamedTuple):
    """Places in the images of a batch.

    ``places`` has one tensor for each image: boxes (R_b, 4) in pixels of a two-stage detector, or
    numbers of anchors (R_b,) of a one-stage detector. ``labels`` (R,): the class that each place
    should have; C is the background.
    """

    places: tuple[Tensor, ...]
    labels: Tensor


class DetectorOutputs(NamedTuple):
    """What a detector gives on a batch in training.

    Attributes:
        maps: the maps of the feature pyramid, finest first.
        pooled: the input of the last linear layer, (R, D); (R, 0) of a one-stage detector.
        logits: (R, C + 1) with the background last; (R, C) of a one-stage detector.
        regions: where the rows are: the sampled regions, or the foreground anchors.
        losses: torchvision's own losses by the detector's ``term_names``, scalars.

    """

    maps: tuple[Tensor, ...]
    pooled: Tensor
    logits: Tensor
    regions: Regions
    losses: dict[str, Tensor]


class Detections(NamedTuple):
    """What a detector finds in one image, best first: boxes (D, 4), labels from 0, scores."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor


class Detector(Classifier):
    """A detector around a network of torchvision, under torchvision's own parameter names.

    The network's children are this module's, so that published files load, and its forward pass is
    taken apart into the methods below. All of them act the same in training and evaluation mode,
    which only BatchNorm follows.

    Attributes:
        num_classes: C, without background.
        term_names: the keys of :attr:`DetectorOutputs.losses`.
        region_space: equal for two detectors if one can read the regions of the other.

    """

    num_classes: int
    term_names: tuple[str, ...]
    region_space: tuple[Any, ...]
    network: Any
    backbone: Any

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        for name, child in network.named_children():
            if name != "transform":  # images are resized and normalised where they are read
                self.add_module(name, child)
        object.__setattr__(self, "network", network)  # no child: that would prefix all names
        self.num_classes = num_classes

    def forward_features(self, x: Tensor) -> Features:
        """Return the maps of images without padding, and pooled features and logits.

        These are at the detector's own best regions.
        """
        maps, sizes = self.feature_maps(x), [(x.shape[2], x.shape[3])] * len(x)
        if x.is_meta:  # where the regions are depends on what is in the images
            return Features(maps, x.new_empty(0, 0), x.new_empty(0, self.num_classes))
        nothing = [NoObjects(x.new_empty(0, 4), x.new_empty(0, dtype=torch.int64))] * len(x)
        regions = self.propose(x, maps, sizes, nothing, REGIONS_OF_AN_IMAGE)
        return Features(maps, *self.at_regions(maps, regions, sizes, x))

    def feature_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the feature pyramid, finest first."""
        if images.shape[1] != IN_CHANNELS:
            raise wrong_channels(images.shape[1])
        return tuple(self.backbone(images).values())

    @abstractmethod
    def train_outputs(
        self, images: Tensor, sizes: Sizes, objects: Sequence[ImageObjects]
    ) -> DetectorOutputs:
        """Return maps, logits and losses, with proposals and regions as torchvision draws them.

        Raises UserError for a label that is no class number.
        """

    @abstractmethod
    def propose(
        self,
        images: Tensor,
        maps: Sequence[Tensor],
        sizes: Sizes,
        objects: Sequence[ImageObjects],
        count: int | None = None,
    ) -> Regions:
        """Return the detector's own regions, without gradient, labelled by the objects.

        They are sampled as in training, or the ``count`` best of each image, without any draw.
        """

    @abstractmethod
    def at_regions(
        self, maps: Sequence[Tensor], regions: Regions, sizes: Sizes, images: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return pooled features and logits at regions, of this or of another detector.

        The rows are in the order of the regions, and those of :class:`DetectorOutputs`.
        """

    @abstractmethod
    def detect(self, maps: Sequence[Tensor], images: Tensor, sizes: Sizes) -> list[Detections]:
        """Return the detections in each image, in pixels of the batch's images."""

    def _targets(
        self, objects: Sequence[ImageObjects], like: Tensor, first: int
    ) -> list[dict[str, Tensor]]:
        """Return the objects as torchvision wants them, with labels that begin at ``first``."""
        labels = torch.cat([image.labels for image in objects])
        wrong = labels[(labels < 0) | (labels >= self.num_classes)]
        if len(wrong):
            raise UserError(
                f"an object has the class number {int(wrong[0])}, and the detector has "
                f"{self.num_classes} classes, numbered from 0"
            )
        return [
            {"boxes": image.boxes.to(like.dtype), "labels": image.labels + first}
            for image in objects
        ]


def in_full(tensor: Tensor) -> Tensor:
    """Return a tensor of half precision in float32, others as they are.

    bfloat16 has eight bits: it cannot tell pixels beyond 256 apart.
    """
    return tensor.float() if tensor.dtype in HALF else tensor


def anchors_of(
    generator: Any, images: Tensor, maps: Sequence[Tensor], sizes: Sizes
) -> list[Tensor]:
    """Return the anchors (A, 4) of each image, in the precision of boxes."""
    from torchvision.models.detection.image_list import ImageList

    # The generator reads size, dtype and device of the maps: one channel is enough.
    shown = [in_full(level[:, :1].detach()) for level in maps]
    anchors: list[Tensor] = generator(ImageList(images, list(sizes)), shown)
    return anchors


def wrong_channels(channels: int) -> UserError:
    """Return the error for images of another number of channels than three."""
    return UserError(
        f"detectors take images of {IN_CHANNELS} channels, not {channels}; repeat a grey channel"
    )
