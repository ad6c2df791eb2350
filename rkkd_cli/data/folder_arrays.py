"""Image folders that fit into memory: decoded once, into arrays that are cached on disk.

The cache holds one uncompressed npz file for each folder content, written whole or not at all.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.data.folder_scan import FileIndex, Tree
from rkkd_cli.data.images import LabelledImages
from rkkd_cli.data.shared_images import shared_notes
from rkkd_cli.data.streaming.crops import Fit
from rkkd_cli.data.streaming.decode import file_digest, read_rgb, reject_decompression_bombs
from rkkd_cli.errors import UserError
from rkkd_cli.files import atomic_file

DECODER_VERSION = "2"
SPLITS = ("train", "test", "val")  # the last one is often missing
MAX_PROBLEMS = 10  # images that a message names


class TreeDigest(NamedTuple):
    """What the files of a folder are: the key of their arrays, and notes about equal files."""

    key: str
    notes: tuple[str, ...]


def digest_tree(tree: Tree, image_size: int | None, resize: Fit = "crop") -> TreeDigest:
    """Read all files. The key is the SHA-256 of their paths and bytes, and of how they are read."""
    counts = [len(split) for split in tree.splits]
    digest = hashlib.sha256(f"{DECODER_VERSION} {image_size} {resize} {counts}".encode())
    with ThreadPoolExecutor() as pool:
        paths = [*chain.from_iterable(split.paths() for split in tree.splits)]
        contents = [*pool.map(file_digest, paths)]
    for path, content in zip(paths, contents, strict=True):
        digest.update(os.fsencode(path.relative_to(tree.root)) + b"\0" + content)
    trained = set(contents[: counts[0]])
    held_out = zip(paths[counts[0] :], contents[counts[0] :], strict=True)
    shared = [path for path, content in held_out if content in trained]
    return TreeDigest(digest.hexdigest(), shared_notes(shared))


def decode_tree(tree: Tree, image_size: int | None, resize: Fit = "crop") -> list[LabelledImages]:
    """Decode all images to RGB; with ``image_size``, make them fit as ``resize`` says.

    Returns the splits of the tree. Raises UserError naming all images that cannot be decoded or,
    without ``image_size``, one whose size differs from the first image's.
    """
    height, width = decoded_size(tree, image_size)
    problems: list[str] = []

    def decode(path: Path) -> NDArray[np.uint8] | None:
        try:
            pixels = read_rgb(path, image_size, resize)
        except UserError as error:
            problems.append(str(error))
            return None
        if pixels.shape[:2] != (height, width):
            raise UserError(
                f"image {path} is {pixels.shape[1]}×{pixels.shape[0]}, the first one "
                f"{width}×{height}; give one size, such as dataset.image_size=64 (--image-size 64)"
            )
        return pixels

    splits = [_decode_split(split, decode, (3, height, width)) for split in tree.splits]
    if len(problems) > 1:
        shown = "; ".join(sorted(problems)[:MAX_PROBLEMS])
        more = f"; and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        raise UserError(f"{len(problems)} images have to be replaced or removed: {shown}{more}")
    if problems:
        raise UserError(problems[0])
    return splits


def decoded_size(tree: Tree, image_size: int | None) -> tuple[int, int]:
    """Return the height and width of the decoded images: without ``image_size``, the first's."""
    if image_size is not None:
        return image_size, image_size
    with reject_decompression_bombs():
        height, width = read_rgb(tree.train.path(0), None).shape[:2]
    return height, width


def _decode_split(
    files: FileIndex,
    decode: Callable[[Path], NDArray[np.uint8] | None],
    shape: tuple[int, int, int],
) -> LabelledImages:
    images = np.empty((len(files), *shape), dtype=np.uint8)
    with reject_decompression_bombs(), ThreadPoolExecutor() as pool:
        for index, pixels in enumerate(pool.map(decode, files.paths())):
            if pixels is not None:
                images[index] = pixels.transpose(2, 0, 1)
    return LabelledImages(images, files.labels)


def read_arrays(path: Path, count: int) -> list[LabelledImages] | None:
    """Return the ``count`` cached splits, or None if the file is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return [
                LabelledImages(arrays[f"{name}_images"], arrays[f"{name}_labels"])
                for name in SPLITS[:count]
            ]
    except Exception:  # a damaged zip file makes its reader raise nearly anything
        return None


def write_arrays(path: Path, splits: Sequence[LabelledImages]) -> None:
    """Write the splits, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = dict[str, NDArray[Any]]()
    for name, split in zip(SPLITS, splits, strict=False):
        arrays |= {f"{name}_images": split.images, f"{name}_labels": split.labels}
    with atomic_file(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # one of its keywords is a flag
