"""Labelled images in memory or on the disk: balanced subsets, statistics, fingerprints.

Shapes: images (N, channels, H, W) uint8, labels (N,) int64.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.data.streaming.split import ListedImages
from rkkd_cli.errors import UserError

Index = NDArray[np.int64]


@dataclass(frozen=True)
class LabelledImages:
    """One split of a dataset, in memory."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.images.shape[1:]
        return int(channels), int(height), int(width)

    def take(self, index: Index) -> "LabelledImages":
        """Return the images at ``index``, in that order."""
        return LabelledImages(self.images[index], self.labels[index])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, pixels and labels."""
        digest = hashlib.sha256(str(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


Split = LabelledImages | ListedImages
SomeSplit = TypeVar("SomeSplit", LabelledImages, ListedImages)


@dataclass(frozen=True)
class Dataset:
    """The splits that a run uses, and how pixels become inputs: (x/255 − mean) / std.

    ``crop`` is how training images are cut, see :data:`rkkd_cli.data.streaming.crops.CROPS`.
    """

    name: str
    train: Split
    test: Split
    val: Split | None
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int
    flip: bool
    crop: str = "padded"

    @property
    def in_channels(self) -> int:
        """Number of colour channels."""
        return self.train.shape[0]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width."""
        return self.train.shape[1:]

    @property
    def augmentation(self) -> tuple[int | str, bool]:
        """The padding of the crops, or how else they are cut, and whether images are flipped."""
        return self.crop_padding if self.crop == "padded" else self.crop, self.flip

    @property
    def is_streamed(self) -> bool:
        """Whether the images are read from the disk batch by batch."""
        return isinstance(self.train, ListedImages)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all splits, the class names and the normalisation."""
        splits = [split.fingerprint for split in (self.train, self.test, self.val) if split]
        text = repr((splits, self.classes, self.mean, self.std))
        return hashlib.sha256(text.encode()).hexdigest()


def balanced_order(labels: NDArray[np.int64], seed: int) -> Index:
    """Return an order of all images whose every beginning is balanced over the classes.

    Within a class the images are shuffled; the first of each class come first, then the second
    of each, and so on. A class that runs out leaves its places to the others.
    """
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(labels))
    place = _place_in_class(labels[shuffled])
    return shuffled[np.lexsort((labels[shuffled], place))].astype(np.int64)


def _place_in_class(labels: NDArray[np.int64]) -> Index:
    """Return for each label how many equal ones stand before it."""
    order = np.argsort(labels, kind="stable")
    places = np.empty(len(labels), dtype=np.int64)
    places[order] = np.concatenate([np.arange(count) for count in np.bincount(labels)])
    return places


def check_subset(size: int, images: int, classes: int, what: str) -> None:
    """Raise UserError unless ``size`` is at least one image per class and at most all."""
    if not classes <= size <= images:
        raise UserError(
            f"{what} = {size}: the split has {images} images of {classes} classes, so take "
            f"{classes} to {images}"
        )


def balanced_subset(split: SomeSplit, size: int | None, what: str) -> SomeSplit:
    """Return a class-balanced subset of ``size`` images, always the same one; None keeps all."""
    if size is None:
        return split
    check_subset(size, len(split), len(np.unique(split.labels)), what)
    return split.take(np.sort(balanced_order(split.labels, seed=0)[:size]))


def check_hold_out(share: float, images: int, classes: int) -> None:
    """Raise UserError for a share that leaves fewer images than classes on one side."""
    size = round(share * images)
    if size < classes or images - size < classes:
        raise UserError(
            f"dataset.val_share = {share} leaves fewer than one image per class on one side; "
            f"there are {images} training images of {classes} classes"
        )


def hold_out(split: SomeSplit, share: float) -> tuple[SomeSplit, SomeSplit | None]:
    """Split off ``share`` of every class, at least one image: (the rest, the held-out or None)."""
    if share == 0:
        return split, None
    counts = np.bincount(split.labels)
    check_hold_out(share, len(split), int((counts > 0).sum()))
    if (counts == 1).any():
        raise UserError(
            f"dataset.val_share = {share} needs two training images per class: class number "
            f"{int(np.argmax(counts == 1))} has one"
        )
    held_of_class = np.clip(np.rint(share * counts), 1, counts - 1)
    order = balanced_order(split.labels, seed=1)
    is_held = _place_in_class(split.labels[order]) < held_of_class[split.labels[order]]
    return split.take(np.sort(order[~is_held])), split.take(np.sort(order[is_held]))


def channel_statistics(
    images: NDArray[np.uint8],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, of pixels scaled to [0, 1].

    Exact, from the histogram of pixel values. A constant channel gets the standard deviation 1.
    """
    levels = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].ravel(), minlength=256)
        shares = counts / counts.sum()
        mean = float(shares @ levels)
        variance = float(shares @ (levels - mean) ** 2)
        means.append(round(mean, 6))
        deviations.append(round(variance**0.5, 6) or 1.0)
    return tuple(means), tuple(deviations)
