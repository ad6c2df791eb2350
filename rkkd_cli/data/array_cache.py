"""Decoded image folders on disk: one uncompressed npz a tree, written whole or not at all."""

from pathlib import Path

import numpy as np

from rkkd_cli.data.images import LabelledImages
from rkkd_cli.files import whole_file

Splits = tuple[LabelledImages, LabelledImages]


def read_arrays(path: Path) -> Splits | None:
    """Return the cached splits, or None where there are none or the file is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            train = LabelledImages(arrays["train_images"], arrays["train_labels"])
            return train, LabelledImages(arrays["test_images"], arrays["test_labels"])
    except Exception:  # a damaged zip file makes its reader raise nearly anything
        return None


def write_arrays(path: Path, train: LabelledImages, test: LabelledImages) -> None:
    """Write both splits, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.savez(
            file,
            train_images=train.images,
            train_labels=train.labels,
            test_images=test.images,
            test_labels=test.labels,
        )
