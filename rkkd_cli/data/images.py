"""The splits of a dataset: balanced subsets, held-out images, statistics, fingerprints.

Shapes: images (N, channels, H, W) uint8, labels (N,) int64.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.data.folder_scan import FileIndex, Indices
from rkkd_cli.data.streaming.split import StreamedSplit
from rkkd_cli.errors import UserError


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

    def take(self, indices: Indices) -> "LabelledImages":
        """Return the images at ``indices``, in that order."""
        return LabelledImages(self.images[indices], self.labels[indices])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, pixels and labels."""
        digest = hashlib.sha256(str(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


# Training split, test split and class names.
Splits = tuple[LabelledImages, LabelledImages, tuple[str, ...]]
Split = LabelledImages | StreamedSplit
SplitT = TypeVar("SplitT", LabelledImages, StreamedSplit, FileIndex)


@dataclass(frozen=True)
class Dataset:
    """The splits of a run, with augmentation and normalisation: (pixels / 255 − mean) / std.

    ``crop`` is the kind of training crop: ``padded`` (a window of the image padded by
    ``crop_padding``) or ``resized`` (random area and aspect ratio, streamed images only).
    ``notes`` are sentences for the user about how the images were found.
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
    notes: tuple[str, ...] = ()

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
        """The padding of the crops (or ``resized``), and whether images are flipped."""
        return self.crop_padding if self.crop == "padded" else self.crop, self.flip

    @property
    def is_streamed(self) -> bool:
        """Whether the images are read from disk batch by batch."""
        return isinstance(self.train, StreamedSplit)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all splits, the class names and the normalisation."""
        splits = [split.fingerprint for split in (self.train, self.test, self.val) if split]
        text = repr((splits, self.classes, self.mean, self.std))
        return hashlib.sha256(text.encode()).hexdigest()


def balanced_order(labels: NDArray[np.int64], seed: int) -> Indices:
    """Return an order of all images in which every prefix is balanced over the classes.

    Images are shuffled within their class. The first image of each class comes first, then the
    second of each, and so on; classes that have run out are skipped.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    rank = _rank_within_class(labels[shuffled])
    return shuffled[np.lexsort((labels[shuffled], rank))].astype(np.int64)


def _rank_within_class(labels: NDArray[np.int64]) -> Indices:
    """Return for each label how many equal labels precede it."""
    order = np.argsort(labels, kind="stable")
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[order] = np.concatenate([np.arange(count) for count in np.bincount(labels)])
    return ranks


def check_subset(size: int, num_images: int, num_classes: int, setting: str) -> None:
    """Raise UserError unless ``size`` is at least one image per class and at most all images."""
    if not num_classes <= size <= num_images:
        raise UserError(
            f"{setting} = {size}: the split has {num_images} images of {num_classes} classes, so "
            f"take {num_classes} to {num_images}"
        )


def balanced_subset(split: SplitT, size: int | None, setting: str) -> SplitT:
    """Return a class-balanced subset of ``size`` images, always the same one; None keeps all."""
    if size is None:
        return split
    check_subset(size, len(split), len(np.unique(split.labels)), setting)
    return split.take(np.sort(balanced_order(split.labels, seed=0)[:size]))


def check_hold_out(fraction: float, num_images: int, num_classes: int) -> None:
    """Raise UserError if ``fraction`` leaves fewer images than classes on either side."""
    size = round(fraction * num_images)
    if size < num_classes or num_images - size < num_classes:
        raise UserError(
            f"dataset.val_share = {fraction} leaves fewer than one image per class on one side; "
            f"there are {num_images} training images of {num_classes} classes"
        )


def hold_out(
    split: SplitT, fraction: float, classes: Sequence[str]
) -> tuple[SplitT, SplitT | None]:
    """Split off a ``fraction`` of every class, at least one image each.

    Returns the rest and the held-out images (None if ``fraction`` is 0). Raises UserError for a
    class of one image.
    """
    if fraction == 0:
        return split, None
    counts = np.bincount(split.labels)
    check_hold_out(fraction, len(split), int((counts > 0).sum()))
    if (counts == 1).any():
        raise UserError(
            f"dataset.val_share = {fraction} needs two training images per class: class "
            f"{classes[int(np.argmax(counts == 1))]!r} has one"
        )
    held_out_per_class = np.clip(np.rint(fraction * counts), 1, counts - 1)
    order = balanced_order(split.labels, seed=1)
    labels = split.labels[order]
    is_held_out = _rank_within_class(labels) < held_out_per_class[labels]
    return split.take(np.sort(order[~is_held_out])), split.take(np.sort(order[is_held_out]))


def channel_statistics(
    images: NDArray[np.uint8],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, of pixels scaled to [0, 1].

    Exact: computed from the histogram of pixel values. A constant channel gets deviation 1.
    """
    levels = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].ravel(), minlength=256)
        frequencies = counts / counts.sum()
        mean = float(frequencies @ levels)
        variance = float(frequencies @ (levels - mean) ** 2)
        means.append(round(mean, 6))
        deviations.append(round(variance**0.5, 6) or 1.0)
    return tuple(means), tuple(deviations)
