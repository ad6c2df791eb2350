"""The splits of a dataset, and a dataset: fingerprints, statistics.

Shapes: images (N, channels, H, W) uint8, labels (N,) int64.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.data.augmentation import NO_AUGMENTATION, Augmentation
from rkkd_cli.data.model_input import ImageFormat
from rkkd_cli.data.streaming.split import StreamedSplit
from rkkd_cli.data.subsets import Indices


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

    def joined(self, other: "LabelledImages") -> "LabelledImages":
        """Return these images and then the others."""
        images, labels = (self.images, other.images), (self.labels, other.labels)
        return LabelledImages(np.concatenate(images), np.concatenate(labels))

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


@dataclass(frozen=True)
class Dataset:
    """The splits of a run, with augmentation and normalisation: (pixels / 255 − mean) / std.

    ``crop`` is the kind of training crop: ``padded`` (a window of the image padded by
    ``crop_padding``), ``resized`` (random area and aspect ratio) or ``window`` (of the image whose
    shorter side is scaled to size · 256 / 224; streamed images only). ``augment``: what follows
    crop and flip. ``notes`` are sentences for the user about how the images were found.
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
    augment: Augmentation = NO_AUGMENTATION

    @property
    def in_channels(self) -> int:
        """Number of colour channels."""
        return self.train.shape[0]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width."""
        return self.train.shape[1:]

    @property
    def image_format(self) -> ImageFormat:
        """The format in which streams yield the images."""
        return ImageFormat(self.image_size, self.mean, self.std)

    @property
    def augmentation(self) -> tuple[object, ...]:
        """The padding of the crops (or their kind), whether images are flipped, and what else."""
        crops = self.crop_padding if self.crop == "padded" else self.crop, self.flip
        return (*crops, self.augment.used) if self.augment.used else crops

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
