"""The objects of an image."""

from typing import NamedTuple

from torch import Tensor


class Objects(NamedTuple):
    """The objects of one image.

    ``boxes`` (N, 4): x0, y0, x1, y1 in pixels, float32. ``labels`` (N,): class numbers from 0,
    int64. ``areas`` (N,): COCO's area in square pixels of the original image (of the segmentation),
    by which small, medium and large are told apart. ``crowd`` (N,), bool: regions of many objects,
    which are not trained on, and in which detections are not counted.
    """

    boxes: Tensor
    labels: Tensor
    areas: Tensor
    crowd: Tensor
