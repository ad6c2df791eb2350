"""Image folders that fit into memory: decoded once, into arrays that are cached on disk.

The cache holds one uncompressed npz file for each folder content, written whole or not at all.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.data.folder_scan import FileIndex, Tree
from rkkd_cli.data.images import LabelledImages
from rkkd_cli.data.streaming.decode import file_digest, read_rgb, reject_decompression_bombs
from rkkd_cli.errors import UserError
from rkkd_cli.files import atomic_file

DECODER_VERSION = "1"


def tree_key(tree: Tree, image_size: int | None) -> str:
    """Return the SHA-256 of every file's path and bytes, the image size and the decoder version."""
    digest = hashlib.sha256(f"{DECODER_VERSION} {image_size}".encode())
    with ThreadPoolExecutor() as pool:
        paths = [*chain(tree.train.paths(), tree.test.paths())]
        for path, content in zip(paths, pool.map(file_digest, paths), strict=True):
            digest.update(os.fsencode(path.relative_to(tree.root)) + b"\0" + content)
    return digest.hexdigest()


def decode_tree(tree: Tree, image_size: int | None) -> tuple[LabelledImages, LabelledImages]:
    """Decode all images to RGB; with ``image_size``, resize the shorter side and crop the centre.

    Raises UserError naming an image that cannot be decoded or, without ``image_size``, one whose
    size differs from the first image's.
    """
    height, width = decoded_size(tree, image_size)

    def decode(path: Path) -> NDArray[np.uint8]:
        pixels = read_rgb(path, image_size)
        if pixels.shape[:2] != (height, width):
            raise UserError(
                f"image {path} is {pixels.shape[1]}×{pixels.shape[0]}, the first one "
                f"{width}×{height}; give one size, such as dataset.image_size=64"
            )
        return pixels

    shape = (3, height, width)
    return _decode_split(tree.train, decode, shape), _decode_split(tree.test, decode, shape)


def decoded_size(tree: Tree, image_size: int | None) -> tuple[int, int]:
    """Return the height and width of the decoded images: without ``image_size``, the first's."""
    if image_size is not None:
        return image_size, image_size
    with reject_decompression_bombs():
        height, width = read_rgb(tree.train.path(0), None).shape[:2]
    return height, width


def _decode_split(
    files: FileIndex, decode: Callable[[Path], NDArray[np.uint8]], shape: tuple[int, int, int]
) -> LabelledImages:
    images = np.empty((len(files.labels), *shape), dtype=np.uint8)
    with reject_decompression_bombs(), ThreadPoolExecutor() as pool:
        for index, pixels in enumerate(pool.map(decode, files.paths())):
            images[index] = pixels.transpose(2, 0, 1)
    return LabelledImages(images, files.labels)


def read_arrays(path: Path) -> tuple[LabelledImages, LabelledImages] | None:
    """Return the cached splits, or None if the file is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            train = LabelledImages(arrays["train_images"], arrays["train_labels"])
            return train, LabelledImages(arrays["test_images"], arrays["test_labels"])
    except Exception:  # a damaged zip file makes its reader raise nearly anything
        return None


def write_arrays(path: Path, train: LabelledImages, test: LabelledImages) -> None:
    """Write both splits, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        np.savez(
            file,
            train_images=train.images,
            train_labels=train.labels,
            test_images=test.images,
            test_labels=test.labels,
        )
