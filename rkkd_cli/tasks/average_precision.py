"""COCO's average precision of the boxes that a detector finds.

Shapes: D detections, N objects, K classes, T = 10 thresholds of the IoU, 101 recalls, 4 sizes.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rkkd_cli.data.detection.objects import Objects
from rkkd_cli.errors import UserError
from rkkd_cli.installation import install_command
from rkkd_cli.models.detection.detector import Detections

MAX_DETECTIONS = 100  # of an image and class, as COCO counts
CLASSES_AT_ONCE = 8  # bounds the memory: the library wants a dictionary for each box
IOU_50, IOU_75 = 0, 5  # where these thresholds stand among 0.5, 0.55 … 0.95
ALL, SMALL, MEDIUM, LARGE = range(4)  # COCO's sizes: areas below 32², up to 96², and above
MAX_EXAMPLES = 6


def require_coco_eval() -> None:
    """Raise UserError if the package that computes average precision is missing."""
    if find_spec("faster_coco_eval") is None:
        raise UserError(
            "average precision needs the package faster-coco-eval; install it: "
            f"{install_command('detection')}"
        )


class ImageBoxes(NamedTuple):
    """What was found in an image, and what there is: plain arrays, in pixels of the image.

    ``boxes`` (D, 4), ``labels`` and ``scores`` (D,); ``object_boxes`` (N, 4), ``object_labels``,
    ``areas`` and ``crowd`` (N,).
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    object_boxes: NDArray[np.float32]
    object_labels: NDArray[np.int64]
    areas: NDArray[np.float32]
    crowd: NDArray[np.bool_]


class AveragePrecision:
    """COCO's metrics of detections, which are kept image by image.

    The order in which images come does not matter, and an image that comes twice counts once.
    """

    def __init__(self) -> None:
        self.images: dict[int, ImageBoxes] = {}

    def add(self, detections: Detections, objects: Objects, index: int) -> None:
        """Keep what was found in the image of this index. Waits for the device.

        Boxes are x0, y0, x1, y1 in pixels of the original image.
        """
        self.images[index] = ImageBoxes(*map(_array, (*detections, *objects)))

    def values(self) -> dict[str, float]:
        """Return ap, ap50, ap75, ap_small, ap_medium, ap_large and ar, in percent.

        ``ap`` is the mean over classes and IoU thresholds 0.5, 0.55 … 0.95 of the area below the
        curve of precision against recall; ``ap50`` and ``ap75`` are of one threshold, the next
        three of objects of a size; ``ar`` is the mean recall of 100 detections an image and class.
        Detections within crowds are not counted. A metric of which there is no object is left out,
        where COCO's own tools say −1.

        Raises UserError if faster-coco-eval is missing. Source: Lin et al., arXiv 1405.0312.
        """
        require_coco_eval()
        images = [image for _, image in sorted(self.images.items())]
        classes = sorted({label for image in images for label in image.object_labels.tolist()})
        if not classes:
            return {}
        rows = _Rows.of(images)
        groups = [classes[n : n + CLASSES_AT_ONCE] for n in range(0, len(classes), CLASSES_AT_ONCE)]
        of_groups = [rows.curves(group) for group in groups]
        precision, recall = (np.concatenate(of, axis=-2) for of in zip(*of_groups, strict=True))
        values = {
            "ap": precision[..., ALL],
            "ap50": precision[IOU_50, ..., ALL],
            "ap75": precision[IOU_75, ..., ALL],
            "ap_small": precision[..., SMALL],
            "ap_medium": precision[..., MEDIUM],
            "ap_large": precision[..., LARGE],
            "ar": recall[..., ALL],
        }
        counted = {name: of[of > -1] for name, of in values.items()}
        return {name: 100 * float(of.mean()) for name, of in counted.items() if of.size}

    def examples(self) -> list[int]:
        """Return the first image of each of the first six classes, at most six images."""
        first: dict[int, int] = {}
        for index, image in sorted(self.images.items()):
            for label in image.object_labels[~image.crowd].tolist():
                first.setdefault(label, index)
        return list(dict.fromkeys(first[label] for label in sorted(first)))[:MAX_EXAMPLES]


class _Rows(NamedTuple):
    """The boxes of all images, one after another, with the numbers of their images, from 1."""

    images: int
    found_in: NDArray[np.int64]
    present_in: NDArray[np.int64]
    boxes: ImageBoxes

    @classmethod
    def of(cls, images: Sequence[ImageBoxes]) -> "_Rows":
        numbers = np.arange(1, 1 + len(images))
        found_in = numbers.repeat([len(image.labels) for image in images])
        present_in = numbers.repeat([len(image.areas) for image in images])
        boxes = ImageBoxes(*(np.concatenate(arrays) for arrays in zip(*images, strict=True)))
        return cls(len(images), found_in, present_in, boxes)

    def curves(self, classes: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return precision (T, 101, K, 4) and recall (T, K, 4) of some classes; −1: no object."""
        from faster_coco_eval import COCO, COCOeval_faster

        sets = {
            "images": [{"id": number} for number in range(1, 1 + self.images)],
            "categories": [{"id": label} for label in classes],
        }
        present, found = (
            COCO({**sets, "annotations": annotations})
            for annotations in (self._objects(classes), self._detections(classes))
        )
        evaluation = COCOeval_faster(present, found, "bbox")
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
        return evaluation.eval["precision"][..., 0], evaluation.eval["recall"][..., 0]

    def _objects(self, classes: Sequence[int]) -> list[dict[str, Any]]:
        boxes = self.boxes
        return _annotations(
            np.isin(boxes.object_labels, classes),
            image_id=self.present_in,
            category_id=boxes.object_labels,
            bbox=_corner_and_size(boxes.object_boxes),
            area=boxes.areas,
            iscrowd=boxes.crowd.astype(np.int64),
        )

    def _detections(self, classes: Sequence[int]) -> list[dict[str, Any]]:
        sized = _corner_and_size(self.boxes.boxes)
        return _annotations(
            np.isin(self.boxes.labels, classes),
            image_id=self.found_in,
            category_id=self.boxes.labels,
            bbox=sized,
            area=sized[:, 2:].prod(axis=1),
            score=self.boxes.scores,
        )


def _array(tensor: Tensor) -> NDArray[Any]:
    """Return a copy on the CPU, of which no more is kept than it has; NumPy has no bfloat16."""
    values = tensor.float() if tensor.is_floating_point() else tensor
    return values.detach().cpu().numpy().copy()


def _corner_and_size(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return boxes as x, y, width and height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:].astype(float) - boxes[:, :2]], axis=1)


def _annotations(chosen: NDArray[np.bool_], **columns: NDArray[Any]) -> list[dict[str, Any]]:
    """Return the chosen rows of some columns in COCO's format."""
    rows = zip(*(column[chosen].tolist() for column in columns.values()), strict=True)
    return [{"id": n, **dict(zip(columns, row, strict=True))} for n, row in enumerate(rows, 1)]
