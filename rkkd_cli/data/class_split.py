"""Splits into disjoint classes: what is tested on has classes that were never trained on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rkkd_cli.data.subsets import SplitT
from rkkd_cli.errors import UserError


class ClassSplit(NamedTuple):
    """The numbers of the classes that are trained on, and of those that are tested on."""

    train: tuple[int, ...]
    test: tuple[int, ...]


def split_by_class(
    train: SplitT, test: SplitT, split: ClassSplit, classes: Sequence[str]
) -> tuple[SplitT, SplitT]:
    """Return the training images of the classes to train on, and the test images of the others.

    ``classes`` are the names of all; the labels stay as they are. ``train`` and ``test`` may be the
    same images. Raises UserError for a class that there is not, and for one without images.
    """
    return (
        _of_classes(train, split.train, "train", classes),
        _of_classes(test, split.test, "test", classes),
    )


def _of_classes(
    images: SplitT, wanted: tuple[int, ...], half: str, classes: Sequence[str]
) -> SplitT:
    if max(wanted) >= len(classes):
        raise UserError(
            f"dataset.classes.{half} names class {max(wanted)}, and the dataset has the classes 0 "
            f"to {len(classes) - 1}"
        )
    missing = set(wanted).difference(images.labels.tolist())
    if missing:
        raise UserError(
            f"dataset.classes.{half} names {_called(min(missing), classes)}, of which there are no "
            f"{_kind(half)} images; leave it out"
        )
    return images.take(np.flatnonzero(np.isin(images.labels, wanted)))


def check_pairs(images: SplitT, half: str, classes: Sequence[str], settings: str) -> None:
    """Raise UserError for a class of one image: in training and retrieval, two make a pair.

    ``settings``: the keys that say how many images there are.
    """
    counts = np.bincount(images.labels)
    if (counts == 1).any():
        raise UserError(
            f"{_called(int(np.argmax(counts == 1)), classes)} has one {_kind(half)} image, and "
            f"classes that are split by dataset.classes need two of each; leave it out, or change "
            f"{settings}"
        )


def shuffled(images: SplitT, seed: int) -> SplitT:
    """Return the images in a random order, always the same one.

    Held-out terms are computed on batches of neighbours, which have to be of many classes, and
    folders are sorted by class.
    """
    return images.take(np.random.default_rng(seed).permutation(len(images)))


def _called(number: int, classes: Sequence[str]) -> str:
    name = classes[number]
    return f"class {number}" + (f" ({name!r})" if name != str(number) else "")


def _kind(half: str) -> str:
    return {"train": "training", "val": "validation"}.get(half, half)
