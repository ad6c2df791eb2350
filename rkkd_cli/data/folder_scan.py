"""Image folders: the files in ``train/<class>/*`` and ``test/<class>/*`` (or ``val/``).

Only file names are read. They are kept in arrays, where a million names take tens of megabytes.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.errors import UserError

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff",
)  # fmt: skip
EXPECTED_LAYOUT = "expected train/<class>/* and test/<class>/* (or val/<class>/*)"

Indices = NDArray[np.int64]


class FileIndex(NamedTuple):
    """The image files of one split: their paths below ``root``, as bytes, and their labels."""

    root: Path
    names: NDArray[np.bytes_]
    labels: NDArray[np.int64]

    def path(self, index: int) -> Path:
        """Return the path of one file."""
        return self.root / os.fsdecode(self.names[index])

    def paths(self) -> Iterator[Path]:
        """Yield the path of every file."""
        return (self.path(index) for index in range(len(self.labels)))

    def take(self, indices: Indices) -> "FileIndex":
        """Return the files at ``indices``, in that order."""
        return FileIndex(self.root, self.names[indices], self.labels[indices])


class Tree(NamedTuple):
    """The files of both splits of an image folder, and its class names."""

    root: Path
    train: FileIndex
    test: FileIndex
    classes: tuple[str, ...]


def scan_folder(root: Path, follow_links: bool = False) -> Tree:
    """List the images below ``root``; the classes are the sorted folder names of ``train/``.

    Raises UserError for a missing or empty folder, for a class of the test split that the training
    split lacks, and for a link that leads out of ``root`` (unless ``follow_links``).
    """
    if not root.is_dir():
        raise UserError(f"no such image folder: {root}")
    test_folder = next((root / n for n in ("test", "val") if (root / n).is_dir()), None)
    if not (root / "train").is_dir() or test_folder is None:
        missing = "train/" if not (root / "train").is_dir() else "test/ or val/"
        raise UserError(f"image folder {root} has no {missing}; {EXPECTED_LAYOUT}")
    classes = tuple(path.name for path in _class_folders(root / "train"))
    unknown = [p.name for p in _class_folders(test_folder) if p.name not in classes]
    if unknown:
        raise UserError(
            f"class {unknown[0]!r} is in {test_folder} but not in {root / 'train'}; add training "
            "images for it or remove it"
        )
    links: list[Path] = []
    train = _index_split(root, root / "train", classes, links)
    test = _index_split(root, test_folder, classes, links)
    if not follow_links:
        folders = [folder for split in (root / "train", test_folder) for folder in
                   (split, *_class_folders(split)) if folder.is_symlink()]  # fmt: skip
        _refuse_links_out(root, [*sorted(folders), *links])
    return Tree(root, train, test, classes)


def _refuse_links_out(root: Path, links: Sequence[Path]) -> None:
    resolved_root = root.resolve()
    for link in links:
        try:
            is_inside = link.resolve().is_relative_to(resolved_root)
        except (OSError, RuntimeError):  # RuntimeError before Python 3.13
            raise UserError(f"{link} is a link that leads to itself; remove it") from None
        if not is_inside:
            raise UserError(
                f"{link} is a link that leads out of the image folder {root}; copy what it links "
                "to, or allow such links with dataset.follow_links=true"
            )


def _class_folders(split: Path) -> list[Path]:
    folders = sorted(p for p in split.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise UserError(f"image folder {split} has no class folders; {EXPECTED_LAYOUT}")
    return folders


def _index_split(root: Path, split: Path, classes: Sequence[str], links: list[Path]) -> FileIndex:
    """Return the images of a split; appends those that are links to ``links``."""
    label_of = {name: label for label, name in enumerate(classes)}
    names, labels = [], []
    for folder in _class_folders(split):
        images = list(_images_below(root, f"{split.name}{os.sep}{folder.name}", links))
        if not images:
            raise UserError(f"class folder {folder} holds no images ({' '.join(IMAGE_SUFFIXES)})")
        names.append(np.array(images))
        labels.append(np.full(len(images), label_of[folder.name], dtype=np.int64))
    return FileIndex(root, np.concatenate(names), np.concatenate(labels))


def _images_below(root: Path, folder: str, links: list[Path]) -> Iterator[bytes]:
    """Yield the names, relative to ``root``, of the images in a folder and below it, sorted.

    Raises UserError for a folder that cannot be read, and for a linked folder: it is not followed,
    and its images would be missing without a word.
    """
    try:
        with os.scandir(root / folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"cannot read the folder {root / folder}: {error.strerror}") from None
    for entry in entries:
        name = f"{folder}{os.sep}{entry.name}"
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122  # a Path is slower
        is_image = suffix in IMAGE_SUFFIXES
        if entry.is_symlink():
            path = root / name
            if path.is_dir():
                raise UserError(
                    f"{path} is a link to a folder, which is not followed; copy the folder"
                )
            links += [path] if is_image else []
        if is_image:
            yield os.fsencode(name)
        if entry.is_dir(follow_symlinks=False):
            yield from _images_below(root, name, links)
