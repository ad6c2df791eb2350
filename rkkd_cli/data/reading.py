"""Reads the datasets: what they have is told before, their images are decoded or streamed.

An image folder is streamed from disk on request, or if its decoded images would take more than
``MAX_RESIDENT_BYTES``. That depends on the folder and the settings, never on the machine, so the
same experiment gives the same numbers everywhere.
"""

from collections.abc import Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from rkkd_cli.data.catalogue import (
    DatasetInfo,
    DatasetRequest,
    DatasetSpec,
    checked_spec,
    has_image_files,
)
from rkkd_cli.data.class_split import check_pairs, shuffled, split_by_class
from rkkd_cli.data.digits import load_digits
from rkkd_cli.data.folder_arrays import (
    decode_tree,
    decoded_size,
    digest_tree,
    read_arrays,
    write_arrays,
)
from rkkd_cli.data.folder_scan import Tree, scan_folder
from rkkd_cli.data.headers import Headers, read_headers
from rkkd_cli.data.images import Dataset, LabelledImages, Splits, channel_statistics
from rkkd_cli.data.retrieval_sets import (
    RETRIEVAL_SETS,
    scan_retrieval_set,
    unpack_retrieval_set,
)
from rkkd_cli.data.shared_images import copies_among, shared_notes
from rkkd_cli.data.streaming.loader import ImageLoader
from rkkd_cli.data.streaming.split import StreamedSplit
from rkkd_cli.data.subsets import (
    Labelled,
    Labels,
    SplitT,
    balanced_subset,
    hold_out,
)
from rkkd_cli.errors import UserError

MAX_RESIDENT_BYTES = 4 * 2**30
STREAMED_SIZE = 224
PoolT = TypeVar("PoolT", LabelledImages, Labels)
# ImageNet's statistics, as usual for photographs: measuring those of a stream takes an epoch.
STREAMED_MEAN, STREAMED_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def inspect_dataset(request: DatasetRequest) -> DatasetInfo:
    """Check the request and describe the dataset, without decoding or writing anything.

    Raises UserError for a request that does not fit the dataset.
    """
    spec = checked_spec(request)
    used: tuple[Sized, Sized, Sized | None]
    if spec.size is None:
        tree = _scan(request)
        info = _folder_info(request, tree)
        used = _select_images(request, tree.train, tree.test, tree.val, tree.classes)
    else:
        train, test, classes = _label_splits(spec)
        train, test = _by_class(request, spec, train, test, classes)
        facts = len(classes), spec.in_channels, spec.size
        counts = _count_classes(train), _count_classes(test)
        info = DatasetInfo(*facts, len(train), len(test), *counts)
        used = _select_images(request, train, test, None, classes)
    sizes = [0 if split is None else len(split) for split in used]
    return info._replace(
        train_images=sizes[0],
        test_images=sizes[1],
        val_images=sizes[2],
        unused_images=info.images - sum(sizes),
    )


def _count_classes(split: Labelled) -> int:
    return len(np.unique(split.labels))


def _label_splits(spec: DatasetSpec) -> tuple[Labels, Labels, tuple[str, ...]]:
    """Return the labels of training and test images, and the classes' names, or their numbers."""
    if spec.splits is not None:
        train, test, classes = spec.splits
        return Labels(train.labels), Labels(test.labels), classes
    assert spec.counts is not None
    return spec.counts.splits


def needs_download(request: DatasetRequest, cache: Path) -> bool:
    """Return whether :func:`load_dataset` would download the dataset."""
    if request.name == "digits" or ":" in request.name or has_image_files(request.name):
        return False
    from rkkd_cli.data.torchvision_sets import is_present

    return not is_present(request.name, _download_root(request, cache))


def load_dataset(request: DatasetRequest, cache: Path) -> Dataset:
    """Return the dataset, downloaded or decoded if needed; ``cache`` keeps the result.

    Raises UserError for a request that does not fit, RunError when a download fails.
    """
    spec = checked_spec(request)
    if spec.size is not None:
        train, test, classes = spec.splits or _read_splits(request, cache)
        by_class = _by_class(request, spec, train, test, classes)
        return _resident_dataset(request, spec, by_class, classes)
    if request.name in RETRIEVAL_SETS:
        unpack_retrieval_set(request.name, request.root)
    tree = _scan(request)
    info = _folder_info(request, tree)
    if info.streamed:
        return _streamed_dataset(request, spec, tree, info.size[0])
    digest = digest_tree(tree, request.image_size, request.resize)
    splits = _decode_folder(request, tree, cache / "arrays" / f"{digest.key}.npz")
    dataset = _resident_dataset(request, spec, splits, tree.classes)
    return replace(dataset, notes=tree.notes + digest.notes)


def inspect_images(request: DatasetRequest) -> Headers:
    """Return what the headers of an image folder's files say."""
    return read_headers(_scan(request))


def check_images(request: DatasetRequest) -> None:
    """Decode the images of a folder that is held in memory, and keep nothing.

    Raises UserError naming all that cannot be decoded.
    """
    decode_tree(_scan(request), request.image_size, request.resize)


def _by_class(
    request: DatasetRequest, spec: DatasetSpec, train: PoolT, test: PoolT, classes: Sequence[str]
) -> tuple[PoolT, PoolT]:
    """Return the splits with the classes that are requested of each.

    What is one set has all images of a class.
    """
    if request.classes is None:
        return train, test
    if spec.is_one_set:
        train = test = train.joined(test)
    return split_by_class(train, test, request.classes, classes)


def _scan(request: DatasetRequest) -> Tree:
    """Return the files of the requested classes."""
    if request.name in RETRIEVAL_SETS:
        return scan_retrieval_set(request.name, request.root, request.classes)
    if request.root is None:
        raise UserError(
            "dataset folder needs --data-root, the folder that holds train/ and test/, or the "
            "class folders"
        )
    root, by_class = Path(request.root).expanduser(), request.classes
    how = request.follow_links, request.test_share, request.split_seed
    tree = scan_folder(root, *how, by_class=by_class is not None)
    if by_class is not None:
        train, test = split_by_class(tree.train, tree.test, by_class, tree.classes)
        val = tree.val and tree.val.take(np.flatnonzero(np.isin(tree.val.labels, by_class.train)))
        tree = tree._replace(train=train, test=test, val=val or None)
    if tree.val is None or not request.val_share:
        return tree
    note = (
        f"dataset.val_share = {request.val_share} is not used: {root} has validation images of its "
        "own"
    )
    return tree._replace(notes=(*tree.notes, note))


def _folder_info(request: DatasetRequest, tree: Tree) -> DatasetInfo:
    """Describe an image folder, and decide whether its images are streamed."""
    side = request.image_size or STREAMED_SIZE
    streamed = DatasetInfo(
        num_classes=len(tree.classes),
        in_channels=3,
        size=(side, side),
        train_images=len(tree.train),
        test_images=len(tree.test),
        train_classes=_count_classes(tree.train),
        test_classes=_count_classes(tree.test),
        streamed=True,
        val_images=len(tree.val or ()),
        notes=tree.notes,
    )
    always = request.name in RETRIEVAL_SETS or request.crop in ("resized", "window")
    if request.streaming or (request.streaming is None and always):
        return streamed
    if request.crop == "window":
        raise UserError(
            "dataset.crop = 'window' cuts windows out of images as they are on the disk; leave out "
            "dataset.streaming = false (--no-stream), or take another crop"
        )
    if request.name in RETRIEVAL_SETS and request.image_size is None:
        raise UserError(
            f"the images of {request.name} have sizes of their own; to hold them in memory, give "
            "one, such as --image-size 64"
        )
    if request.resize != "crop" and request.image_size is None:
        raise UserError(
            f"dataset.resize = {request.resize!r} makes images fit dataset.image_size; give that "
            "too, such as --image-size 64"
        )
    resident = streamed._replace(size=decoded_size(tree, request.image_size), streamed=False)
    is_too_large = resident.decoded_bytes > MAX_RESIDENT_BYTES
    return streamed if request.streaming is None and is_too_large else resident


def _read_splits(request: DatasetRequest, cache: Path) -> Splits:
    if request.name == "digits":
        return load_digits()
    from rkkd_cli.data.torchvision_sets import load_torchvision

    return load_torchvision(request.name, _download_root(request, cache))


def _download_root(request: DatasetRequest, cache: Path) -> Path:
    return cache / "downloads" if request.root is None else Path(request.root).expanduser()


def _decode_folder(request: DatasetRequest, tree: Tree, path: Path) -> Sequence[LabelledImages]:
    """Return the splits from the file of arrays, which is made if it is missing or damaged."""
    splits = read_arrays(path, len(tree.splits))
    if splits is None:
        splits = decode_tree(tree, request.image_size, request.resize)
        write_arrays(path, splits)
    return splits


def _resident_dataset(
    request: DatasetRequest,
    spec: DatasetSpec,
    splits: Sequence[LabelledImages],
    classes: tuple[str, ...],
) -> Dataset:
    train, test, *rest = splits
    train, test, val = _select_images(request, train, test, rest[0] if rest else None, classes)
    mean, std = spec.mean, spec.std
    if mean is None or std is None:
        measured_mean, measured_std = channel_statistics(train.images)
        mean, std = mean or measured_mean, std or measured_std
    crop, augment = request.crop or "padded", request.augment
    crops = spec.crop_padding if crop == "padded" else 0, spec.flip, crop
    return Dataset(request.name, train, test, val, classes, mean, std, *crops, augment=augment)


def _streamed_dataset(request: DatasetRequest, spec: DatasetSpec, tree: Tree, size: int) -> Dataset:
    is_resized = request.crop_padding is None and request.resize == "crop"
    crop = request.crop or ("resized" if is_resized else "padded")
    loader, root = ImageLoader(request.decoders), tree.root.absolute()
    files = [replace(split, root=root) for split in tree.splits]
    train, test, *rest = [
        StreamedSplit(split, size, crop, loader, request.resize) for split in files
    ]
    own_val = rest[0] if rest else None
    train, test, val = _select_images(request, train, test, own_val, tree.classes)
    mean, std = spec.mean or STREAMED_MEAN, spec.std or STREAMED_STD
    crops = spec.crop_padding if crop == "padded" else 0, spec.flip, crop
    classes, notes = tree.classes, tree.notes + shared_notes(copies_among(tree))
    images = request.name, train, test, val, classes, mean, std
    return Dataset(*images, *crops, notes, request.augment)


def _select_images(
    request: DatasetRequest,
    train: SplitT,
    test: SplitT,
    val: SplitT | None,
    classes: tuple[str, ...],
) -> tuple[SplitT, SplitT, SplitT | None]:
    """Return the requested images of training, test and validation.

    ``val`` has the dataset's own validation images; without them ``val_share`` is held out. Raises
    UserError for a request that the splits do not fit.
    """
    train = balanced_subset(train, request.limit_train, "dataset.limit_train")
    test = balanced_subset(test, request.limit_test, "dataset.limit_test")
    if val is None:
        train, val = hold_out(train, request.val_share, classes)
    if request.is_split_by_class:
        check_pairs(train, "train", classes, "dataset.limit_train or dataset.val_share")
        check_pairs(test, "test", classes, "dataset.limit_test")
        test = shuffled(test, request.split_seed)
    if request.is_split_by_class and val is not None:
        check_pairs(val, "val", classes, "dataset.val_share")
        val = shuffled(val, request.split_seed)
    return train, test, val
