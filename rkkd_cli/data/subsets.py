"""Class-balanced subsets and held-out shares of a split, by its labels alone: always the same ones.

Shapes: labels (N,) int64, from 0 on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.errors import UserError

Indices = NDArray[np.int64]


class Labelled(Protocol):
    """Images with labels: in memory, on disk, or only their file names."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class index of each image, (N,)."""

    def __len__(self) -> int:
        """The number of images."""

    def take(self, indices: Indices) -> Self:
        """Return the images at ``indices``, in that order."""


SplitT = TypeVar("SplitT", bound=Labelled)


@dataclass(frozen=True)
class Labels:
    """Labels alone: a split whose images need not be read to know which of them are taken."""

    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Indices) -> "Labels":
        """Return the labels at ``indices``, in that order."""
        return Labels(self.labels[indices])

    def joined(self, other: "Labels") -> "Labels":
        """Return these labels and then the others."""
        return Labels(np.concatenate((self.labels, other.labels)))


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


def subset_size(limit: int | None, num_images: int, num_classes: int, setting: str) -> int:
    """Return how many images are kept of a split: at most ``limit``; None keeps all.

    Raises UserError for a limit of less than one image per class.
    """
    if limit is None or limit >= num_images:
        return num_images
    if limit < num_classes:
        raise UserError(
            f"{setting} = {limit}: the split has {num_images} images of {num_classes} classes, so "
            f"take {num_classes} or more"
        )
    return limit


def balanced_subset(split: SplitT, limit: int | None, setting: str) -> SplitT:
    """Return a class-balanced subset of at most ``limit`` images, always the same one."""
    size = subset_size(limit, len(split), len(np.unique(split.labels)), setting)
    if size == len(split):
        return split
    return split.take(np.sort(balanced_order(split.labels, seed=0)[:size]))


def check_hold_out(share: float, num_images: int, num_classes: int, setting: str) -> None:
    """Raise UserError if ``share`` leaves fewer images than classes on either side."""
    size = round(share * num_images)
    if size < num_classes or num_images - size < num_classes:
        way_out = f"; {setting} = 0 holds out none" if setting.endswith("val_share") else ""
        raise UserError(
            f"{setting} = {share} would hold out {size} of {num_images} images, and there are "
            f"{num_classes} classes: each needs an image on either side{way_out}"
        )


def hold_out(
    split: SplitT,
    share: float,
    classes: Sequence[str],
    setting: str = "dataset.val_share",
    seed: int = 1,
) -> tuple[SplitT, SplitT | None]:
    """Split off a ``share`` of every class, at least one image each.

    Returns the rest and the held-out images (None if ``share`` is 0). Raises UserError for a class
    of one image.
    """
    if share == 0:
        return split, None
    counts = np.bincount(split.labels)
    check_hold_out(share, len(split), int((counts > 0).sum()), setting)
    if (counts == 1).any():
        raise UserError(
            f"{setting} = {share} needs two training images per class: class "
            f"{classes[int(np.argmax(counts == 1))]!r} has one"
        )
    held_out_per_class = np.clip(np.rint(share * counts), 1, counts - 1)
    order = balanced_order(split.labels, seed)
    labels = split.labels[order]
    is_held_out = _rank_within_class(labels) < held_out_per_class[labels]
    return split.take(np.sort(order[~is_held_out])), split.take(np.sort(order[is_held_out]))
