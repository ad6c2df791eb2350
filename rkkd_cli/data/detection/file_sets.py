"""Datasets of image files with annotations: their splits as a run uses them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rkkd_cli.data.detection.coco import find_coco, find_coco_folder, read_coco
from rkkd_cli.data.detection.dataset import DetectionRequest, DetectionSplits, held_out_count
from rkkd_cli.data.detection.listing import Listing
from rkkd_cli.data.detection.loading import decode_files
from rkkd_cli.data.detection.splits import FileSplit
from rkkd_cli.data.detection.voc import read_voc
from rkkd_cli.data.streaming.loader import ImageLoader
from rkkd_cli.errors import UserError, first_of

MAX_SHOWN_CLASSES = 10


def read_files(request: DetectionRequest) -> DetectionSplits:
    """Return the splits of a folder. Raises UserError for annotations or images that do not fit."""
    assert request.root is not None
    root, listings = _listings(request.name, Path(request.root).expanduser().absolute())
    categories = dict(sorted(listings["train"].categories.items()))
    loader = ImageLoader(request.decoders, decode_files)
    found: dict[str, FileSplit] = {}
    notes = [note for listing in listings.values() for note in listing.notes]
    for name, listing in listings.items():
        _check_categories(listing, listings["train"])
        found[name] = _file_split(root, listing, categories, loader)
        found[name].check_files(listing.listed_in)
        _check_shapes(found[name], request.max_size)
    train, val = found["train"], found.get("val")
    good = np.flatnonzero(train.annotations.can_be_trained_on)
    if not len(good):
        raise UserError(f"no image listed in {listings['train'].listed_in} has an object")
    if len(good) < len(train):
        notes.append(
            f"{len(train) - len(good):,} of {len(train):,} training images have no objects and are "
            "left out, as COCO's usual recipes do"
        )
    train, test, val, more = _with_held_out(request, root, train.take(good), found.get("test"), val)
    if test.annotations.crowd.all():
        raise UserError(f"no test image of {root} has an object, so there is no average precision")
    notes += [*more, *_unused_classes(train, categories)]
    return DetectionSplits(train, test, val, categories, tuple(notes))


def _listings(name: str, root: Path) -> tuple[Path, Mapping[str, Listing]]:
    """Return the folder below which the images are named, and what is listed by split."""
    if name == "voc":
        return read_voc(root)
    is_coco = name == "coco"
    sources = find_coco(root) if is_coco else find_coco_folder(root)
    return root, {split: read_coco(source, root, is_coco) for split, source in sources.items()}


def _check_categories(listing: Listing, train: Listing) -> None:
    """Raise UserError if a split has categories that the training images do not have."""
    for number, name in listing.categories.items():
        if train.categories.get(number) != name:
            other = train.categories.get(number)
            there = "no such category" if other is None else repr(other)
            raise UserError(
                f"the category {number} is {name!r} in {listing.listed_in} and {there} in "
                f"{train.listed_in}; give both the same list of categories"
            )


def _check_shapes(split: FileSplit, max_size: int) -> None:
    """Raise UserError for an image that has no pixels left if its longest side is max_size."""
    thin = np.flatnonzero(split.sizes.max(axis=1) >= max_size * split.sizes.min(axis=1))
    for index in thin[:1].tolist():
        height, width = split.sizes[index].tolist()
        raise UserError(
            f"the image {split.root / split.names[index]} has {width}×{height} pixels, too "
            f"thin for dataset.max_size = {max_size}; remove it from the list"
        )


def _file_split(
    root: Path, listing: Listing, categories: Mapping[int, str], loader: ImageLoader
) -> FileSplit:
    """Return the split, whose labels are the places of its objects' categories."""
    known = listing.annotations
    labels = np.searchsorted(np.array(list(categories)), known.labels).astype(np.int64)
    annotations = replace(known, labels=labels)
    return FileSplit(root, listing.names, listing.sizes, annotations, loader)


def _with_held_out(
    request: DetectionRequest,
    root: Path,
    train: FileSplit,
    test: FileSplit | None,
    val: FileSplit | None,
) -> tuple[FileSplit, FileSplit, FileSplit | None, list[str]]:
    """Return the requested images for training, testing and validation, and notes on them."""
    notes, seed = [], request.split_seed
    if test is not None and request.test_share:
        notes.append(f"dataset.test_share is not used: {root} has test images of its own")
    if test is None and request.test_share:
        train, test = _hold_out(train, request.test_share, seed, "test_share")
    if test is None and val is not None:
        test, val = val, None
        notes.append(f"{root} has no test images: its validation images are the test images")
    if test is None:
        raise UserError(
            f"{root} has annotations of training images only; hold out a share of them for testing "
            "with --test-share 0.2, or add val/ or test/ with annotations"
        )
    train, test = _limited(train, request.limit_train), _limited(test, request.limit_test)
    if val is not None and request.val_share:
        notes.append(f"dataset.val_share is not used: {root} has validation images of its own")
    elif request.val_share:
        train, val = _hold_out(train, request.val_share, seed + 1, "val_share")
    return train, test, val, notes


def _limited(split: FileSplit, limit: int | None) -> FileSplit:
    if limit is None or limit >= len(split):
        return split
    order = np.random.default_rng(0).permutation(len(split))
    return split.take(np.sort(order[:limit]))


def _hold_out(
    split: FileSplit, share: float, seed: int, setting: str
) -> tuple[FileSplit, FileSplit]:
    """Return the split without a random share of its images, and these."""
    count = held_out_count(len(split), share, setting)
    order = np.random.default_rng(seed).permutation(len(split))
    return split.take(np.sort(order[count:])), split.take(np.sort(order[:count]))


def _unused_classes(train: FileSplit, categories: Mapping[int, str]) -> Sequence[str]:
    labels = train.annotations.labels[~train.annotations.crowd]
    counts = np.bincount(labels, minlength=len(categories))
    unused = [name for name, count in zip(categories.values(), counts, strict=True) if not count]
    if not unused:
        return ()
    shown = first_of(unused, MAX_SHOWN_CLASSES)
    return (f"{len(unused)} of {len(categories)} classes have no object to train on: {shown}",)
