"""A user's own images: a function named ``package.module:name`` that returns arrays."""

from typing import Any

import numpy as np

from rkkd_cli.data.images import LabelledImages
from rkkd_cli.errors import UserError
from rkkd_cli.plugins import check_signature, load_plugin

Splits = tuple[LabelledImages, LabelledImages, tuple[str, ...]]


def load_own(spec: str, root: str | None) -> Splits:
    """Return the training and the test split, and the names of the classes.

    The function gets ``dataset.root`` (None where it is not given) and returns ``(train_images,
    train_labels, test_images, test_labels)``: uint8 arrays (N, channels, H, W), and whole numbers
    (N,) from 0 on. Raises UserError for anything else.
    """
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
    train = _split(spec, "train", *arrays[:2])
    test = _split(spec, "test", *arrays[2:])
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = [one.images.shape[1:] for one in (train, test)]
        raise UserError(
            f"dataset {spec}: training images are {shapes[0]}, test images are {shapes[1]}"
        )
    count = int(max(train.labels.max(), test.labels.max())) + 1
    missing = set(range(count)) - set(train.labels.tolist())
    if missing:
        raise UserError(f"dataset {spec}: class {min(missing)} has no training image")
    return train, test, tuple(str(label) for label in range(count))


def _split(spec: str, which: str, images: Any, labels: Any) -> LabelledImages:
    pixels, numbers = np.asarray(images), np.asarray(labels)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or 0 in pixels.shape:
        raise UserError(
            f"dataset {spec}: {which}_images must be uint8 (images, channels, height, width), not "
            f"{pixels.dtype} {pixels.shape}"
        )
    if numbers.dtype.kind not in "iu" or numbers.shape != pixels.shape[:1] or numbers.min() < 0:
        raise UserError(
            f"dataset {spec}: {which}_labels must be {len(pixels)} whole numbers from 0 on, not "
            f"{numbers.dtype} {numbers.shape}"
        )
    return LabelledImages(np.ascontiguousarray(pixels), numbers.astype(np.int64))
