"""Image folders that fit into memory: hashed and decoded once, into arrays.

The arrays are kept on disk: one uncompressed npz a tree, written whole or not at all.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.data.folder_scan import Files, Tree
from rkkd_cli.data.images import LabelledImages
from rkkd_cli.data.streaming.decode import file_digest, read_rgb, refusing_bombs
from rkkd_cli.errors import UserError
from rkkd_cli.files import whole_file

DECODER_VERSION = "1"


def tree_key(tree: Tree, image_size: int | None) -> str:
    """Return the SHA-256 of every file's path and bytes, and of how they are decoded."""
    digest = hashlib.sha256(f"{DECODER_VERSION} {image_size}".encode())
    with ThreadPoolExecutor() as pool:
        paths = [*chain(tree.train.paths(), tree.test.paths())]
        for path, content in zip(paths, pool.map(file_digest, paths), strict=True):
            digest.update(os.fsencode(path.relative_to(tree.root)) + b"\0" + content)
    return digest.hexdigest()


def decode_tree(tree: Tree, image_size: int | None) -> tuple[LabelledImages, LabelledImages]:
    """Decode all images to RGB; with ``image_size``, shorter side scaled and centre cropped.

    Raises UserError naming an image that cannot be decoded, or whose size differs from the
    first one's when no ``image_size`` is given.
    """
    height, width = image_shape(tree, image_size)

    def decode(path: Path) -> NDArray[np.uint8]:
        pixels = read_rgb(path, image_size)
        if pixels.shape[:2] != (height, width):
            raise UserError(
                f"image {path} is {pixels.shape[1]}×{pixels.shape[0]}, the first one "
                f"{width}×{height}; give one size, such as dataset.image_size=64"
            )
        return pixels

    shape = (3, height, width)
    return _decode(tree.train, decode, shape), _decode(tree.test, decode, shape)


def image_shape(tree: Tree, image_size: int | None) -> tuple[int, int]:
    """Return (height, width) that the decoded images will have, from the first one."""
    if image_size is not None:
        return image_size, image_size
    with refusing_bombs():
        height, width = read_rgb(tree.train.path(0), None).shape[:2]
    return height, width


def _decode(
    files: Files, decode: Callable[[Path], NDArray[np.uint8]], shape: tuple[int, int, int]
) -> LabelledImages:
    images = np.empty((len(files.labels), *shape), dtype=np.uint8)
    with refusing_bombs(), ThreadPoolExecutor() as pool:
        for number, pixels in enumerate(pool.map(decode, files.paths())):
            images[number] = pixels.transpose(2, 0, 1)
    return LabelledImages(images, files.labels)


def read_arrays(path: Path) -> tuple[LabelledImages, LabelledImages] | None:
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
