"""Image folders: ``train/<class>/*`` and ``test/<class>/*`` (or ``val/<class>/*``).

The tree is listed, hashed and decoded once into arrays, which are cached under the hash.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.data.decode import read_rgb, refusing_bombs
from rkkd_cli.data.images import LabelledImages
from rkkd_cli.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
DECODER_VERSION = "1"
LAYOUT = "expected train/<class>/* and test/<class>/* (or val/<class>/*)"


class Tree(NamedTuple):
    """The files of both splits with their labels, and the class names."""

    root: Path
    train: list[tuple[Path, int]]
    test: list[tuple[Path, int]]
    classes: tuple[str, ...]


def scan_folder(root: Path, follow_links: bool = False) -> Tree:
    """List the images below ``root``; classes are the sorted folder names of ``train/``.

    Raises UserError for a missing or empty folder, for a class in the test split that the
    training split lacks and, unless ``follow_links``, for a link that leads out of ``root``.
    """
    if not root.is_dir():
        raise UserError(f"no such image folder: {root}")
    test_folder = next((root / n for n in ("test", "val") if (root / n).is_dir()), None)
    if not (root / "train").is_dir() or test_folder is None:
        missing = "train/" if not (root / "train").is_dir() else "test/ or val/"
        raise UserError(f"image folder {root} has no {missing}; {LAYOUT}")
    classes = tuple(path.name for path in _class_folders(root / "train"))
    unknown = [p.name for p in _class_folders(test_folder) if p.name not in classes]
    if unknown:
        raise UserError(
            f"class {unknown[0]!r} is in {test_folder} but not in {root / 'train'}; add training "
            "images for it or remove it"
        )
    train = _labelled_files(root / "train", classes)
    test = _labelled_files(test_folder, classes)
    if not follow_links:
        _refuse_links_out(root, [path for path, _ in train + test])
    return Tree(root, train, test, classes)


def _refuse_links_out(root: Path, files: Sequence[Path]) -> None:
    inside = root.resolve()
    parents = {file.parent for file in files}
    above = {folder for parent in parents for folder in parent.parents}
    folders = {path for path in parents | above if root in path.parents}
    for path in (*sorted(folders), *files):
        if path.is_symlink() and not _resolved(path).is_relative_to(inside):
            raise UserError(
                f"{path} is a link that leads out of the image folder {root}; copy what it links "
                "to, or allow such links with dataset.follow_links=true"
            )


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # RuntimeError before Python 3.13
        raise UserError(f"{path} is a link that leads to itself; remove it") from None


def _class_folders(split: Path) -> list[Path]:
    folders = sorted(p for p in split.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise UserError(f"image folder {split} has no class folders; {LAYOUT}")
    return folders


def _labelled_files(split: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    files: list[tuple[Path, int]] = []
    for folder in _class_folders(split):
        entries = sorted(folder.rglob("*"))
        _refuse_linked_folders(entries)
        images = [path for path in entries if path.suffix.lower() in SUFFIXES]
        if not images:
            raise UserError(f"class folder {folder} holds no images ({' '.join(SUFFIXES)})")
        label = classes.index(folder.name)
        files += [(path, label) for path in images]
    return files


def _refuse_linked_folders(entries: Sequence[Path]) -> None:
    """Raise UserError for a linked folder in a class folder: its images would be left out."""
    for path in entries:
        if path.is_symlink() and path.is_dir():
            raise UserError(f"{path} is a link to a folder, which is not followed; copy the folder")


def tree_key(tree: Tree, image_size: int | None) -> str:
    """Return the SHA-256 of every file's path and bytes, and of how they are decoded."""
    digest = hashlib.sha256(f"{DECODER_VERSION} {image_size}".encode())
    with ThreadPoolExecutor() as pool:
        paths = [path for path, _ in tree.train + tree.test]
        for path, content in zip(paths, pool.map(_file_digest, paths), strict=True):
            digest.update(os.fsencode(path.relative_to(tree.root)) + b"\0" + content)
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"cannot read the image {path}: it is no file")
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror}") from None


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
        height, width = read_rgb(tree.train[0][0], None).shape[:2]
    return height, width


def _decode(
    files: list[tuple[Path, int]],
    decode: Callable[[Path], NDArray[np.uint8]],
    shape: tuple[int, int, int],
) -> LabelledImages:
    images = np.empty((len(files), *shape), dtype=np.uint8)
    with refusing_bombs(), ThreadPoolExecutor() as pool:
        for number, pixels in enumerate(pool.map(decode, (path for path, _ in files))):
            images[number] = pixels.transpose(2, 0, 1)
    return LabelledImages(images, np.array([label for _, label in files], dtype=np.int64))
