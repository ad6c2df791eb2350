"""What an image folder has: its classes, splits and sizes, and what can be held out of it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from rkkd_cli.data.folder_scan import FileIndex, scan_folder, split_folders
from rkkd_cli.data.headers import Headers, read_headers
from rkkd_cli.data.subsets import hold_out
from rkkd_cli.errors import UserError

# Shares of the images that may be held out, the usual ones first.
TEST_SHARES, VAL_SHARES = (0.2, 0.3, 0.5), (0.1, 0.2)


class FolderFacts(NamedTuple):
    """An image folder as a run would use it: images of each split once the shares are held out.

    ``test_share`` is 0 where the folder has images to test on, in ``own_test``: the name of their
    folder. ``val_share`` is 0 where it has validation images of its own (``has_own_val``), or too
    few images to hold any out.
    """

    classes: int
    train: int
    val: int
    test: int
    test_share: float
    val_share: float
    own_test: str | None
    has_own_val: bool
    headers: Headers
    notes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The counts: ``2,000 images of 10 classes``."""
        return f"{self.images:,} images of {self.classes:,} classes"

    def sentences(self) -> list[str]:
        """Return what was left out, and which of the images whose headers were read are broken."""
        return [*self.notes, *self.headers.sentences()[1:]]

    @property
    def images(self) -> int:
        """The number of all images."""
        return self.train + self.val + self.test


def folder_facts(folder: Path) -> FolderFacts:
    """Read the names of a folder's images and the headers of at most 5,000; decode none.

    Raises UserError for a folder without classes, with one class, with too few images to hold some
    out for testing, or without an image that can be read.
    """
    named = split_folders(folder) if folder.is_dir() else {}
    own_test = named.get("test") or named.get("val")
    tree = scan_folder(folder, by_class=own_test is None)
    if len(tree.classes) < 2:
        raise UserError(
            f"{folder} has one class, {tree.classes[0]!r}; distillation and its ranking loss need "
            "at least 2"
        )
    headers = read_headers(tree)
    if not headers.sizes:
        raise UserError(f"no image of {folder} can be read: {headers.unreadable[0]}")
    train, test, test_share = tree.train, tree.test, 0.0
    if own_test is None:
        held_out = _hold_out(train, TEST_SHARES, tree.classes)
        if held_out is None:
            raise _too_few(folder, train, tree.classes)
        train, test, test_share = held_out
    val, val_share = len(tree.val or ()), 0.0
    held_out = None if val else _hold_out(train, VAL_SHARES, tree.classes)
    if held_out is not None:
        train, val, val_share = held_out[0], len(held_out[1]), held_out[2]
    own_name = None if own_test is None else own_test.name
    return FolderFacts(
        len(tree.classes), len(train), val, len(test), test_share, val_share, own_name,
        tree.val is not None, headers, tree.notes,
    )  # fmt: skip


def _hold_out(
    split: FileIndex, shares: tuple[float, ...], classes: tuple[str, ...]
) -> tuple[FileIndex, FileIndex, float] | None:
    """Return the rest, the images held out and their share: the first one that is possible."""
    for share in shares:
        try:
            rest, held_out = hold_out(split, share, classes)
        except UserError:
            continue
        assert held_out is not None
        return rest, held_out, share
    return None


def _too_few(folder: Path, split: FileIndex, classes: tuple[str, ...]) -> UserError:
    counts = np.bincount(split.labels)
    smallest = int(np.argmin(counts))
    return UserError(
        f"{folder} has {len(split):,} images of {len(classes):,} classes, {counts[smallest]} of "
        f"{classes[smallest]!r}: too few to train on some and test on others; add images, or put "
        "images to test on into test/<class>/*, beside train/<class>/*"
    )
