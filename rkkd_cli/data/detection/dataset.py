"""A detection dataset: what is asked for, what is known of it at once, and its splits."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from rkkd_cli.data.detection.splits import DetectionSplit
from rkkd_cli.data.model_input import ImageFormat
from rkkd_cli.errors import UserError

DIVISOR = 32  # of the padded images' sides: the stride of the coarsest map
LARGEST_SCENE = 128


@dataclass(frozen=True)
class DetectionRequest:
    """The dataset that is wanted. None means its own default.

    Attributes:
        name: one of :data:`rkkd_cli.data.detection.reading.DETECTION_SETS`.
        root: its folder; of ``cifar_scenes``, that of CIFAR's images.
        limit_train, limit_test: how many images of a split are taken at most, always the same; how
            many scenes are made, 1000 and 300 by default.
        val_share: the share of the training images that is held out for validation.
        test_share: the share that is held out for testing in a folder without ``val`` or ``test``.
        split_seed: draws what is held out, and the scenes.
        min_size: shorter sides of the images in pixels, of which each training image has a random
            one, and test images the largest. () shows images as they are.
        max_size: the longest side of an image in pixels.
        flip: whether half of the training images are mirrored.
        mean, std: normalisation.
        decoders: processes that decode image files.

    """

    name: str
    root: str | None = None
    limit_train: int | None = None
    limit_test: int | None = None
    val_share: float = 0.0
    test_share: float = 0.0
    split_seed: int = 0
    min_size: tuple[int, ...] | None = None
    max_size: int = 1333
    flip: bool | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    decoders: int | None = None


class DetectionSplits(NamedTuple):
    """The splits as a run uses them, and the classes' names by their original numbers, sorted."""

    train: DetectionSplit
    test: DetectionSplit
    val: DetectionSplit | None
    categories: dict[int, str]
    notes: tuple[str, ...] = ()


class DetectionInfo(NamedTuple):
    """What is known of a dataset before its images are read.

    ``category_ids`` are the numbers of the classes in the annotation files. ``train_objects`` and
    ``test_objects``, without crowds, are None for scenes, which are not made yet; these have their
    classes' numbers as names, where the names stand beside the images.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    train_images: int
    test_images: int
    val_images: int
    train_objects: int | None
    test_objects: int | None
    streamed: bool
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """The number of classes, without background."""
        return len(self.classes)


@dataclass(frozen=True)
class DetectionDataset:
    """The splits of a run, and how their images are shown: see :class:`DetectionRequest`.

    ``category_ids`` (C,) are the numbers of the classes in the annotation files, as the columns of
    published heads count them. ``notes`` are sentences for the user about what was found.
    """

    name: str
    train: DetectionSplit
    test: DetectionSplit
    val: DetectionSplit | None
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min_size: tuple[int, ...]
    max_size: int
    flip: bool
    is_streamed: bool
    notes: tuple[str, ...] = ()

    @property
    def in_channels(self) -> int:
        """Number of colour channels."""
        return 3

    @property
    def image_format(self) -> ImageFormat:
        """The normalisation of the images, and a usual size of theirs: they differ."""
        return ImageFormat(usual_size(self.min_size), self.mean, self.std)

    @property
    def test_size(self) -> int | None:
        """The shorter side of held-out images in pixels; None shows them as they are."""
        return max(self.min_size, default=None)

    @property
    def augmentation(self) -> tuple[object, ...]:
        """The sizes of the images, and whether they are flipped."""
        return self.min_size, self.max_size, self.flip

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all splits, the classes and the normalisation."""
        splits = [split.fingerprint for split in (self.train, self.test, self.val) if split]
        text = repr((splits, self.classes, self.category_ids, self.mean, self.std))
        return hashlib.sha256(text.encode()).hexdigest()


def usual_size(sides: Sequence[int]) -> tuple[int, int]:
    """Return a height and width that images have whose shorter sides become these, padded."""
    side = -(-max(sides, default=LARGEST_SCENE) // DIVISOR) * DIVISOR
    return side, side


def held_out_count(images: int, share: float, setting: str) -> int:
    """Return how many of so many images a share is. Raises UserError for none and for all."""
    count = round(share * images)
    if not 0 < count < images:
        raise UserError(
            f"dataset.{setting} = {share} would hold out {count} of {images} images; each side "
            "needs one"
        )
    return count
