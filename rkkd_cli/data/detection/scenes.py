"""Scenes made from seeds: 1 to 5 images of a dataset on a canvas of noise, with their boxes.

So detection runs without a download. A canvas is 64 to 128 pixels wide and high, an image on it 24
to 64; an image hides at most a tenth of another.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rkkd_cli.data.detection.annotations import Annotations, by_image
from rkkd_cli.data.detection.objects import Objects
from rkkd_cli.data.images import LabelledImages
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.data.subsets import Indices

CANVAS = (64, 128)  # pixels, as all of these the least and the most
OBJECT = (24, 64)
OBJECTS = (1, 5)
MAX_OVERLAP = 0.1  # of the smaller image's area
ATTEMPTS = 30  # to find a free place, or the image is left out


class Scene(NamedTuple):
    """An image (H, W, 3), the boxes in it (N, 4) and their labels (N,)."""

    pixels: NDArray[np.uint8]
    boxes: Indices
    labels: Indices


@dataclass(frozen=True)
class SceneSplit:
    """Scenes in memory."""

    images: tuple[NDArray[np.uint8], ...]
    annotations: Annotations

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def sizes(self) -> Indices:
        """Height and width of each scene, (N, 2)."""
        return np.array([image.shape[:2] for image in self.images], np.int64).reshape(-1, 2)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return the pixels of one scene, (H, W, 3)."""
        return self.images[index]

    def objects(self, index: int) -> Objects:
        """Return the objects of one scene."""
        return self.annotations.objects(index)

    def take(self, indices: Indices) -> "SceneSplit":
        """Return the scenes at ``indices``, in that order."""
        images = tuple(self.images[index] for index in indices.tolist())
        return SceneSplit(images, self.annotations.take(indices))

    def batches(
        self, batches: Sequence[Sequence[int]], pin_memory: bool = False
    ) -> Iterator[list[Tensor]]:
        """Yield the scenes of each batch, (H, W, 3) uint8 each."""
        for batch in batches:
            yield [torch.from_numpy(self.images[index]) for index in batch]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all pixels and objects."""
        digest = hashlib.sha256(self.annotations.digest)
        for image in self.images:
            digest.update(str(image.shape).encode() + image.tobytes())
        return digest.hexdigest()


def make_scenes(source: LabelledImages, split: str, seed: int, count: int) -> SceneSplit:
    """Return ``count`` scenes of the images of ``source``, always the same.

    Each is a function of the images, split, seed and its index: more scenes begin with the same.
    """
    scenes = [
        draw_scene(source, np.random.default_rng(derive_seed(seed, "scene", split, index)))
        for index in range(count)
    ]
    boxes = np.concatenate([scene.boxes for scene in scenes])
    image_of = np.repeat(np.arange(count), [len(scene.boxes) for scene in scenes])
    labels = np.concatenate([scene.labels for scene in scenes])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    crowd = np.zeros(len(boxes), np.bool_)
    floats = boxes.astype(np.float64), areas.astype(np.float64)
    annotations = by_image(image_of, floats[0], labels, floats[1], crowd, count)
    return SceneSplit(tuple(scene.pixels for scene in scenes), annotations)


def draw_scene(source: LabelledImages, generator: np.random.Generator) -> Scene:
    """Draw a canvas and the images on it."""
    height, width = generator.integers(CANVAS[0], CANVAS[1] + 1, 2).tolist()
    canvas = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    boxes: list[list[int]] = []
    labels: list[int] = []
    for _ in range(int(generator.integers(OBJECTS[0], OBJECTS[1] + 1))):
        index = int(generator.integers(len(source)))
        box = _free_box(boxes, height, width, generator)
        if box is not None:
            x0, y0, x1, y1 = box
            canvas[y0:y1, x0:x1] = _scaled(source.images[index], x1 - x0)
            boxes.append(box)
            labels.append(int(source.labels[index]))
    return Scene(canvas, np.array(boxes, np.int64), np.array(labels, np.int64))


def _free_box(
    taken: Sequence[Sequence[int]], height: int, width: int, generator: np.random.Generator
) -> list[int] | None:
    """Return a square box in the canvas that hardly overlaps those taken, or None."""
    for _ in range(ATTEMPTS):
        side = int(generator.integers(OBJECT[0], OBJECT[1] + 1))
        y0, x0 = (int(generator.integers(length - side + 1)) for length in (height, width))
        box = [x0, y0, x0 + side, y0 + side]
        if all(_overlap(box, other) <= MAX_OVERLAP for other in taken):
            return box
    return None


def _overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """Return the share of the smaller square that the two have in common."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min(one[2] - one[0], other[2] - other[0])
    return max(width, 0) * max(height, 0) / smaller**2


def _scaled(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return an image (C, H, W) as (side, side, 3)."""
    channels = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    picture = Image.fromarray(np.ascontiguousarray(channels))
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))
