"""Image folders: which files lie in ``train/<class>/*`` and ``test/<class>/*`` (or ``val/``).

Only names are read. They are held as arrays, so that a million of them take tens of megabytes.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
LAYOUT = "expected train/<class>/* and test/<class>/* (or val/<class>/*)"

Index = NDArray[np.int64]


class Files(NamedTuple):
    """The images of one split below ``root``: their relative paths, as bytes, and their labels."""

    root: Path
    names: NDArray[np.bytes_]
    labels: NDArray[np.int64]

    def path(self, number: int) -> Path:
        """Return the path of one file."""
        return self.root / os.fsdecode(self.names[number])

    def paths(self) -> Iterator[Path]:
        """Yield the path of every file."""
        return (self.path(number) for number in range(len(self.labels)))

    def take(self, index: Index) -> "Files":
        """Return the files at ``index``, in that order."""
        return Files(self.root, self.names[index], self.labels[index])


class Tree(NamedTuple):
    """The files of both splits with their labels, and the class names."""

    root: Path
    train: Files
    test: Files
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
    links: list[Path] = []
    train = _files_of(root, root / "train", classes, links)
    test = _files_of(root, test_folder, classes, links)
    if not follow_links:
        folders = [folder for split in (root / "train", test_folder) for folder in
                   (split, *_class_folders(split)) if folder.is_symlink()]  # fmt: skip
        _refuse_links_out(root, [*sorted(folders), *links])
    return Tree(root, train, test, classes)


def _refuse_links_out(root: Path, links: Sequence[Path]) -> None:
    inside = root.resolve()
    for path in links:
        if not _resolved(path).is_relative_to(inside):
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


def _files_of(root: Path, split: Path, classes: Sequence[str], links: list[Path]) -> Files:
    """Return the images of a split; those that are links are added to ``links``."""
    numbers = {name: number for number, name in enumerate(classes)}
    names, labels = [], []
    for folder in _class_folders(split):
        found = list(_images_below(root, f"{split.name}{os.sep}{folder.name}", links))
        if not found:
            raise UserError(f"class folder {folder} holds no images ({' '.join(SUFFIXES)})")
        names.append(np.array(found))
        labels.append(np.full(len(found), numbers[folder.name], dtype=np.int64))
    return Files(root, np.concatenate(names), np.concatenate(labels))


def _images_below(root: Path, folder: str, links: list[Path]) -> Iterator[bytes]:
    """Yield the relative names of the images in a folder and below it, in the order of the names.

    Raises UserError for a linked folder, whose images would be left out, and for one that cannot
    be read.
    """
    try:
        with os.scandir(root / folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"cannot read the folder {root / folder}: {error.strerror}") from None
    for entry in entries:
        name = f"{folder}{os.sep}{entry.name}"
        is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES  # noqa: PTH122  # fast
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
