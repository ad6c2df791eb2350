"""A user's own dataset: a function named ``package.module:name`` that returns arrays."""

from pathlib import Path
from typing import Any

import numpy as np

from rkkd_cli.data.images import LabelledImages, Splits
from rkkd_cli.errors import UserError
from rkkd_cli.plugins import check_signature, load_plugin


def load_user_dataset(spec: str, root: str | None, by_class: bool = False) -> Splits:
    """Call the user's function and return the training split, the test split and class names.

    The function gets ``dataset.root``, its ``~`` expanded (None unless it is set), and returns
    ``(train_images, train_labels, test_images, test_labels)``: images as uint8 arrays (N, channels,
    H, W), labels as integers (N,) from 0 on. Each class needs training images, unless classes are
    split (``by_class``). Raises UserError for anything else.
    """
    root = None if root is None else str(Path(root).expanduser())
    function = load_plugin("dataset", spec)
    check_signature("dataset", spec, function, root)
    try:
        arrays = function(root)
    except Exception as error:  # a user's function may raise anything
        reason = " ".join(str(error).split()) or "no reason given"
        raise UserError(f"dataset {spec} failed: {type(error).__name__}: {reason}") from error
    if not isinstance(arrays, tuple | list) or len(arrays) != 4:
        raise UserError(
            f"dataset {spec} must return (train_images, train_labels, test_images, test_labels)"
        )
    train = _checked_split(spec, "train", *arrays[:2])
    test = _checked_split(spec, "test", *arrays[2:])
    if train.shape != test.shape:
        raise UserError(
            f"dataset {spec}: training images are {train.shape}, test images are {test.shape}"
        )
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    missing = set(range(num_classes)) - set(train.labels.tolist())
    if missing and not by_class:
        raise UserError(f"dataset {spec}: class {min(missing)} has no training image")
    return train, test, tuple(map(str, range(num_classes)))


def _checked_split(spec: str, split: str, images: Any, labels: Any) -> LabelledImages:
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        raise UserError(
            f"dataset {spec}: {split}_images must be uint8 (images, channels, height, width), not "
            f"{images.dtype} {images.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1] or labels.min() < 0:
        raise UserError(
            f"dataset {spec}: {split}_labels must be {len(images)} whole numbers from 0 on, not "
            f"{labels.dtype} {labels.shape}"
        )
    return LabelledImages(np.ascontiguousarray(images), labels.astype(np.int64))
