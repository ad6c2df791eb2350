"""The objects of many images in flat arrays, and what is checked of their boxes.

Shapes: N images, M objects of all images; boxes (M, 4): x0, y0, x1, y1 in pixels.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rkkd_cli.data.detection.objects import Objects
from rkkd_cli.data.subsets import Indices
from rkkd_cli.errors import UserError

ROUNDING = 1.0  # pixels by which a box may stand out of its image, and is cut off
LEAST_SIDE = 1.0  # a thinner box is not worth training on, say torchvision's reference scripts


@dataclass(frozen=True)
class Annotations:
    """The objects of N images: those of image i stand from ``starts[i]`` to ``starts[i + 1]``."""

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    areas: NDArray[np.float32]
    crowd: NDArray[np.bool_]
    starts: Indices

    @classmethod
    def none(cls, images: int) -> "Annotations":
        """Return those of images without objects."""
        counts = np.zeros(0, np.int64)
        none, boxes = np.zeros(0), np.zeros((0, 4))
        return by_image(counts, boxes, counts, none, none.astype(np.bool_), images)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def objects(self, index: int) -> Objects:
        """Return the objects of one image."""
        rows = slice(self.starts[index], self.starts[index + 1])
        arrays = (self.boxes, self.labels, self.areas, self.crowd)
        return Objects(*(torch.from_numpy(array[rows].copy()) for array in arrays))

    def take(self, indices: Indices) -> "Annotations":
        """Return the objects of the images at ``indices``, in that order."""
        counts = np.diff(self.starts)[indices]
        starts = np.concatenate(([0], np.cumsum(counts)))
        within = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)
        rows = np.repeat(self.starts[:-1][indices], counts) + within
        return Annotations(
            self.boxes[rows], self.labels[rows], self.areas[rows], self.crowd[rows], starts
        )

    @property
    def image_of(self) -> Indices:
        """The image of each object, (M,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @property
    def can_be_trained_on(self) -> NDArray[np.bool_]:
        """Whether each image has an object that is no crowd and is not thinner than a pixel."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        is_good = ~self.crowd & (sides > LEAST_SIDE).all(1)
        return np.bincount(self.image_of[is_good], minlength=len(self)) > 0

    @property
    def digest(self) -> bytes:
        """SHA-256 of all arrays."""
        digest = hashlib.sha256()
        for array in (self.boxes, self.labels, self.areas, self.crowd, self.starts):
            digest.update(np.ascontiguousarray(array).data)
        return digest.digest()


def by_image(
    image_of: Indices,
    boxes: NDArray[np.float64],
    labels: Indices,
    areas: NDArray[np.float64],
    crowd: NDArray[np.bool_],
    images: int,
) -> Annotations:
    """Return objects in any order, whose images are ``image_of`` (M,), sorted by their image."""
    order = np.argsort(image_of, kind="stable")
    counts = np.bincount(image_of, minlength=images)
    return Annotations(
        boxes[order].astype(np.float32),
        labels[order],
        areas[order].astype(np.float32),
        crowd[order],
        np.concatenate(([0], np.cumsum(counts))),
    )


def inside(
    boxes: NDArray[np.float64], image_sizes: Indices, name: Callable[[int], str]
) -> NDArray[np.float64]:
    """Return the boxes (M, 4) without what stands out of their images by up to a pixel.

    ``image_sizes`` (M, 2): height and width of each box's image. Raises UserError for a box without
    area and for one outside its image; ``name`` says which box it is.
    """
    cut = clipped(boxes, image_sizes)
    with np.errstate(invalid="ignore"):
        is_inside = (np.abs(cut - boxes) <= ROUNDING).all(axis=1) & has_area(cut)
        wrong = np.flatnonzero(~(has_area(boxes) & is_inside))
    if not len(wrong):
        return cut
    first = int(wrong[0])
    x0, y0, x1, y1 = boxes[first].tolist()
    height, width = image_sizes[first].tolist()
    problem = "outside" if has_area(boxes)[first] else "without area in"
    others = f" (and {len(wrong) - 1} more boxes are like this)" if len(wrong) > 1 else ""
    raise UserError(
        f"{name(first)} has a box {problem} its image: it reaches from ({x0:g}, {y0:g}) to "
        f"({x1:g}, {y1:g}), and the image has {width}×{height} pixels; correct or remove it{others}"
    )


def has_area(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each box (M, 4) has one."""
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def clipped(boxes: NDArray[np.float64], image_sizes: Indices) -> NDArray[np.float64]:
    """Return the boxes (M, 4) without what stands out of their images."""
    height, width = image_sizes[:, :1], image_sizes[:, 1:]
    return np.clip(boxes, 0, np.concatenate((width, height, width, height), axis=1))
