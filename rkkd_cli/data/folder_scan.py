"""Image folders: the files in ``train/<class>/*``, ``val/<class>/*`` and ``test/<class>/*``.

Or in ``<class>/*`` alone, of which a share is held out for testing. Only file names are read. They
are kept in arrays, where a million names take tens of megabytes.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.data.subsets import Indices, hold_out
from rkkd_cli.errors import UserError, first_of

# Those of the formats that are decoded (see data/streaming/decode.py).
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".ppm", ".pgm",
    ".pbm", ".pnm", ".pfm", ".tif", ".tiff",
)  # fmt: skip
# What people call the splits, in small letters.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
# Folders that programs leave among images, in small letters. Hidden names are left out as well.
STRAY_FOLDERS = (
    "@eadir", "#recycle", "#snapshot", "__macosx", "$recycle.bin", "system volume information",
    "lost+found",
)  # fmt: skip
EXPECTED_LAYOUT = (
    "expected train/<class>/* and test/<class>/* or val/<class>/*, or <class>/* alone with "
    "--test-share 0.2 for a share to test on"
)


@dataclass(frozen=True)
class FileIndex:
    """The image files of one split: their paths below ``root``, as bytes, and their labels."""

    root: Path
    names: NDArray[np.bytes_]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """Return the path of one file."""
        return self.root / os.fsdecode(self.names[index])

    def paths(self) -> Iterator[Path]:
        """Yield the path of every file."""
        return (self.path(index) for index in range(len(self)))

    def take(self, indices: Indices) -> "FileIndex":
        """Return the files at ``indices``, in that order."""
        return replace(self, names=self.names[indices], labels=self.labels[indices])


class Tree(NamedTuple):
    """The files of the splits of an image folder, and its class names.

    ``val`` is None where the folder has no validation images beside its test images. ``notes``
    are sentences for the user about what was left out, and how the splits were made.
    """

    root: Path
    train: FileIndex
    test: FileIndex
    val: FileIndex | None
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def splits(self) -> tuple[FileIndex, ...]:
        """The splits that there are."""
        return (self.train, self.test) + (() if self.val is None else (self.val,))


def scan_folder(
    root: Path,
    follow_links: bool = False,
    test_share: float = 0.0,
    split_seed: int = 0,
    by_class: bool = False,
) -> Tree:
    """List the images below ``root``; the classes are the sorted folder names of ``train/``.

    Each folder of a split is used for what it is called. A root without such folders is ``train/``
    itself. Without ``test/``, a ``test_share`` of the training images, drawn with ``split_seed``,
    are the test images, or those in ``val/`` if it is 0. Hidden names, folders that programs leave
    behind, files of other kinds and empty classes are left out.

    With ``by_class``, for classes that are split afterwards, the classes are those of all splits,
    and without another split all images are training images and test images.

    Raises UserError for a missing or empty folder, for one without test images, for a class of
    another split that the training split lacks, and for a link that leads out of ``root`` (unless
    ``follow_links``).
    """
    if not root.is_dir():
        raise UserError(f"no such image folder: {root}")
    folders, scan = split_folders(root) or {"train": root}, _Scan(root)
    found = {name: scan.images_by_class(folder) for name, folder in folders.items()}
    found = {name: images for name, images in found.items() if images}
    if "train" not in found or (len(found) == 1 and not (test_share or by_class)):
        raise _missing_split(root, folders, found)
    classes = tuple(found["train"])
    if by_class:
        classes = tuple(sorted({name for images in found.values() for name in images}))
    for name, images in found.items():
        unknown = next((label for label in images if label not in classes), None)
        if unknown is not None:
            raise UserError(
                f"class {unknown!r} is in {folders[name]} but not in {folders['train']}; add "
                "training images for it or remove it"
            )
    if not follow_links:
        scan.refuse_links_out()
    splits = {name: _index(root, images, classes) for name, images in found.items()}
    tree = _make_tree(root, splits, classes, scan.notes(), test_share, split_seed)
    return tree if by_class else tree._replace(notes=(*tree.notes, *_untested_classes(tree)))


def _untested_classes(tree: Tree) -> Iterator[str]:
    """Yield a sentence where classes have no test images."""
    labels = np.setdiff1d(np.arange(len(tree.classes)), tree.test.labels)
    if len(labels):
        names = first_of((tree.classes[label] for label in labels), 3)
        yield (
            f"{len(labels):,} of the {len(tree.classes):,} classes of {tree.root} have no test "
            f"images ({names}): the test accuracy says nothing of them"
        )


def _missing_split(root: Path, folders: Mapping[str, Path], found: Mapping[str, Any]) -> UserError:
    """Return the error for a folder without training images, or without test images."""
    if "train" in found and folders["train"] == root:
        return UserError(
            f"image folder {root} has class folders ({first_of(found['train'], 3)}) and no train/ "
            "and test/; hold out a share of its images for testing with --test-share 0.2, or sort "
            "them into train/<class>/* and test/<class>/*"
        )
    missing = "train/" if "train" not in found else "test/ or val/"
    suffixes = " ".join(IMAGE_SUFFIXES)
    return UserError(
        f"image folder {root} has no {missing} with images ({suffixes}) in class folders; "
        f"{EXPECTED_LAYOUT}"
    )


def _make_tree(
    root: Path,
    splits: Mapping[str, FileIndex],
    classes: tuple[str, ...],
    notes: tuple[str, ...],
    test_share: float,
    split_seed: int,
) -> Tree:
    """Return the tree, with test images that the folder has, or that are taken from the others."""
    train, test, val = splits["train"], splits.get("test"), splits.get("val")
    note = ""
    if test is not None and test_share:
        note = f"dataset.test_share = {test_share} is not used: {root} has test images of its own"
    elif test_share:
        images = len(train)
        train, test = hold_out(train, test_share, classes, "dataset.test_share", split_seed)
        note = (
            f"{images - len(train):,} of the {images:,} training images of {root} are held out for "
            f"testing: dataset.test_share = {test_share}, split_seed = {split_seed}"
        )
    elif test is None and val is None:
        test = train
    elif test is None:
        test, val = val, None
        note = f"{root} has no test/: the images in its val/ are the test images"
    assert test is not None
    return Tree(root, train, test, val, classes, (*notes, *([note] if note else [])))


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folders of the splits that there are. Raises UserError for two of one split."""
    folders: dict[str, Path] = {}
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        for split, names in SPLIT_NAMES.items():
            if path.name.lower() not in names:
                continue
            if split in folders:
                raise UserError(
                    f"image folder {root} has {folders[split].name}/ and {path.name}/, which mean "
                    "the same; rename or remove one of them"
                )
            folders[split] = path
    return folders


def _index(
    root: Path, images: Mapping[str, NDArray[np.bytes_]], classes: Sequence[str]
) -> FileIndex:
    label_of = {name: label for label, name in enumerate(classes)}
    labels = [np.full(len(names), label_of[name], np.int64) for name, names in images.items()]
    return FileIndex(root, np.concatenate(list(images.values())), np.concatenate(labels))


@dataclass
class _Scan:
    """Lists the images of classes, and counts what is left out."""

    root: Path
    links: list[Path] = field(default_factory=list)
    hidden: int = 0
    without_class: int = 0  # images that lie beside the class folders
    empty_classes: list[str] = field(default_factory=list)
    other_files: Counter[str] = field(default_factory=Counter)  # by suffix

    def images_by_class(self, split: Path) -> dict[str, NDArray[np.bytes_]]:
        """Return the names, relative to ``root``, of the images of each class, sorted."""
        inside = "" if split == self.root else f"{split.name}{os.sep}"
        self.links += [split] if inside and split.is_symlink() else []
        images: dict[str, NDArray[np.bytes_]] = {}
        for path in sorted(split.iterdir()):
            if self._is_stray(path.name):
                continue
            if not path.is_dir():
                if path.suffix.lower() in IMAGE_SUFFIXES:
                    self.without_class += 1
                else:
                    self.other_files[path.suffix.lower()] += 1
                continue
            self.links += [path] if path.is_symlink() else []
            names = list(self._images_below(f"{inside}{path.name}"))
            if names:
                images[path.name] = np.array(names)
            else:
                self.empty_classes.append(f"{inside}{path.name}")
        return images

    def _images_below(self, folder: str) -> Iterator[bytes]:
        """Yield the names of the images in a folder and below it, sorted.

        Raises UserError for a folder that cannot be read, and for a linked folder: it is not
        followed, and its images would be missing without a word.
        """
        try:
            with os.scandir(self.root / folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(
                f"cannot read the folder {self.root / folder}: {error.strerror}"
            ) from None
        for entry in entries:
            name = f"{folder}{os.sep}{entry.name}"
            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122  # a Path is slower
            if self._is_stray(entry.name):
                continue
            if entry.is_symlink() and (self.root / name).is_dir():
                raise UserError(
                    f"{self.root / name} is a link to a folder, which is not followed; copy the "
                    "folder"
                )
            if entry.is_dir(follow_symlinks=False):
                yield from self._images_below(name)
            elif suffix in IMAGE_SUFFIXES:
                self.links += [self.root / name] if entry.is_symlink() else []
                yield os.fsencode(name)
            else:
                self.other_files[suffix] += 1

    def _is_stray(self, name: str) -> bool:
        """Count a name that is hidden, or that of a folder that a program has left behind."""
        is_stray = name.startswith(".") or name.lower() in STRAY_FOLDERS
        self.hidden += is_stray
        return is_stray

    def refuse_links_out(self) -> None:
        """Raise UserError for a link that leads out of the folder."""
        resolved_root = self.root.resolve()
        for link in self.links:
            try:
                is_inside = link.resolve().is_relative_to(resolved_root)
            except (OSError, RuntimeError):  # RuntimeError before Python 3.13
                raise UserError(f"{link} is a link that leads to itself; remove it") from None
            if not is_inside:
                raise UserError(
                    f"{link} is a link that leads out of the image folder {self.root}; copy what "
                    "it links to, or allow such links with dataset.follow_links=true"
                )

    def notes(self) -> tuple[str, ...]:
        """Return what was left out, as at most one sentence."""
        parts = []
        if self.hidden:
            parts.append(
                f"{self.hidden} hidden files and folders, or such as programs leave behind"
            )
        if self.without_class:
            parts.append(f"{self.without_class} images outside of class folders")
        if self.other_files:
            kinds = ", ".join(suffix or "no suffix" for suffix in sorted(self.other_files))
            parts.append(f"{self.other_files.total()} files that are no images by name ({kinds})")
        if self.empty_classes:
            parts.append(f"class folders without images ({', '.join(self.empty_classes)})")
        return (f"left out of {self.root}: {'; '.join(parts)}",) if parts else ()
