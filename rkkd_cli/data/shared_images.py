"""Held-out images that are also training images, which flatter every accuracy."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rkkd_cli.data.folder_scan import Tree
from rkkd_cli.data.streaming.decode import file_digest
from rkkd_cli.data.streaming.split import file_size

Key = tuple[str, int]  # a file's name and size


def shared_notes(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return what is said of held-out files that are also training files: at most one sentence."""
    if not paths:
        return ()
    images = "image is" if len(paths) == 1 else "images are"
    return (
        f"{len(paths)} held-out {images} also among the training images, byte for byte (such as "
        f"{paths[0]}): accuracies are flattered",
    )


def copies_among(tree: Tree) -> list[Path]:
    """Return the held-out files that are also training files of the same name, byte for byte.

    Only files whose name and size stand on both sides are read.
    """
    held_out = [path for split in tree.splits[1:] for path in split.paths()]
    names = {os.fsencode(path.name) for path in held_out}
    key_of = {path: _name_and_size(path) for path in held_out}
    keys, trained = set(key_of.values()), defaultdict[Key, set[bytes]](set)
    for index, name in enumerate(tree.train.names.tolist()):
        if os.path.basename(name) in names:  # noqa: PTH119  # a Path is slower
            path = tree.train.path(index)
            if (key := _name_and_size(path)) in keys:
                trained[key].add(file_digest(path))
    return [
        path for path, key in key_of.items() if key in trained and file_digest(path) in trained[key]
    ]


def _name_and_size(path: Path) -> Key:
    return path.name, file_size(os.fsencode(path))
