"""The datasets by name: their source, usual augmentation and usual normalisation.

An image folder is streamed from disk on request, or if its decoded images would take more than
``MAX_RESIDENT_BYTES``. That depends on the folder and the settings, never on the machine, so the
same experiment gives the same numbers everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from rkkd_cli.data.digits import load_digits
from rkkd_cli.data.folder_arrays import (
    decode_tree,
    decoded_size,
    digest_tree,
    read_arrays,
    write_arrays,
)
from rkkd_cli.data.folder_scan import Tree, scan_folder
from rkkd_cli.data.images import (
    Dataset,
    LabelledImages,
    Splits,
    SplitT,
    balanced_subset,
    channel_statistics,
    check_hold_out,
    check_subset,
    hold_out,
)
from rkkd_cli.data.streaming.loader import ImageLoader
from rkkd_cli.data.streaming.split import StreamedSplit
from rkkd_cli.data.user_datasets import load_user_dataset
from rkkd_cli.errors import UserError, unknown_name

MAX_RESIDENT_BYTES = 4 * 2**30
STREAMED_SIZE = 224
# ImageNet's statistics, as usual for photographs: measuring those of a stream takes an epoch.
STREAMED_MEAN, STREAMED_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DatasetInfo(NamedTuple):
    """What is known of a dataset before its images are read.

    ``size`` is the images' height and width. ``streamed``: they are read from disk batch by batch.
    ``val_images`` counts those of a validation split that the dataset itself has.
    """

    num_classes: int
    in_channels: int
    size: tuple[int, int]
    train_images: int
    test_images: int
    test_classes: int
    streamed: bool = False
    val_images: int = 0
    notes: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """The number of images of all splits."""
        return self.train_images + self.val_images + self.test_images

    @property
    def decoded_bytes(self) -> int:
        """The bytes of all images in memory."""
        return self.in_channels * self.size[0] * self.size[1] * self.images


class DatasetSpec(NamedTuple):
    """A dataset's entry in the catalogue: its facts, usual augmentation and normalisation.

    ``info`` is None for image folders, which have to be scanned. Without ``mean`` and ``std`` they
    are measured. ``splits`` are the images of a user's own dataset, read to learn its ``info``.
    """

    description: str
    in_channels: int
    crop_padding: int
    flip: bool
    info: DatasetInfo | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    splits: Splits | None = None


DATASETS: dict[str, DatasetSpec] = {
    "digits": DatasetSpec(
        "8×8 grey digits inside scikit-learn, no download", 1, 1, False,
        DatasetInfo(10, 1, (8, 8), 1397, 400, 10),
    ),
    "cifar10": DatasetSpec(
        "32×32 colour, 50,000 + 10,000 images, downloaded", 3, 4, True,
        DatasetInfo(10, 3, (32, 32), 50_000, 10_000, 10),
        (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
    ),
    "cifar100": DatasetSpec(
        "32×32 colour, 50,000 + 10,000 images, downloaded", 3, 4, True,
        DatasetInfo(100, 3, (32, 32), 50_000, 10_000, 100),
        (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761),
    ),
    "fashion_mnist": DatasetSpec(
        "28×28 grey, 60,000 + 10,000 images, downloaded", 1, 2, True,
        DatasetInfo(10, 1, (28, 28), 60_000, 10_000, 10),
        (0.2860,), (0.3530,),
    ),
    "svhn": DatasetSpec(
        "32×32 colour house numbers, 73,257 + 26,032 images, downloaded", 3, 4, False,
        DatasetInfo(10, 3, (32, 32), 73_257, 26_032, 10),
        (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970),
    ),
    "folder": DatasetSpec(
        "your images: ROOT/train/<class>/*, ROOT/test/<class>/* or val/; streamed if large",
        3, 4, True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class DatasetRequest:
    """The dataset that is wanted, and how to read and augment it.

    None means the dataset's own default. ``decoders`` is the number of processes that decode the
    images of a streamed dataset.
    """

    name: str
    root: str | None = None
    image_size: int | None = None
    crop_padding: int | None = None
    flip: bool | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    limit_train: int | None = None
    limit_test: int | None = None
    val_share: float = 0.0
    follow_links: bool = False
    streaming: bool | None = None
    crop: str | None = None
    decoders: int | None = None


def inspect_dataset(request: DatasetRequest) -> DatasetInfo:
    """Check the request and describe the dataset, without decoding or writing anything.

    Raises UserError for a request that does not fit the dataset.
    """
    spec = _checked_spec(request)
    if spec.info is None:
        tree = _scan(request)
        _select_images(request, tree.train, tree.test, tree.val, tree.classes)
        return _folder_info(request, tree)
    info = spec.info
    train_images = request.limit_train or info.train_images
    check_subset(train_images, info.train_images, info.num_classes, "dataset.limit_train")
    test_images = request.limit_test or info.test_images
    check_subset(test_images, info.test_images, info.test_classes, "dataset.limit_test")
    if request.val_share:
        check_hold_out(request.val_share, train_images, info.num_classes)
    return info


def needs_download(request: DatasetRequest, cache: Path) -> bool:
    """Return whether :func:`load_dataset` would download the dataset."""
    if request.name in ("digits", "folder") or ":" in request.name:
        return False
    from rkkd_cli.data.torchvision_sets import is_present

    return not is_present(request.name, _download_root(request, cache))


def load_dataset(request: DatasetRequest, cache: Path) -> Dataset:
    """Return the dataset, downloaded or decoded if needed; ``cache`` keeps the result.

    Raises UserError for a request that does not fit, RunError when a download fails.
    """
    spec = _checked_spec(request)
    if request.name != "folder":
        train, test, classes = spec.splits or _read_splits(request, cache)
        return _resident_dataset(request, spec, [train, test], classes)
    tree = _scan(request)
    info = _folder_info(request, tree)
    if info.streamed:
        return _streamed_dataset(request, spec, tree, info.size[0])
    digest = digest_tree(tree, request.image_size)
    splits = _decode_folder(request, tree, cache / "arrays" / f"{digest.key}.npz")
    dataset = _resident_dataset(request, spec, splits, tree.classes)
    return replace(dataset, notes=tree.notes + digest.notes)


def check_images(request: DatasetRequest) -> None:
    """Decode the images of a folder that is held in memory, and keep nothing.

    Raises UserError naming all that cannot be decoded.
    """
    decode_tree(_scan(request), request.image_size)


def _checked_spec(request: DatasetRequest) -> DatasetSpec:
    """Return the dataset's entry with the requested augmentation and normalisation.

    Raises UserError for settings that the dataset does not have.
    """
    spec = _find_spec(request)
    if request.image_size is not None and request.name != "folder":
        raise UserError(f"dataset.image_size is for image folders; {request.name} has its own size")
    if (request.streaming or request.crop == "resized") and request.name != "folder":
        setting = "streaming = true" if request.streaming else "crop = 'resized'"
        raise UserError(f"dataset.{setting} is for image folders; {request.name} is held in memory")
    if request.root is not None and request.name == "digits":
        raise UserError(
            "digits ships inside scikit-learn and has no --data-root; for images of your own add "
            "--dataset folder"
        )
    for key, values in (("mean", request.mean), ("std", request.std)):
        if values is not None and len(values) != spec.in_channels:
            raise UserError(
                f"dataset.{key} has {len(values)} values, {request.name} has "
                f"{spec.in_channels} channels"
            )
    keys = ("crop_padding", "flip", "mean", "std")
    requested: dict[str, Any] = {key: getattr(request, key) for key in keys}
    return spec._replace(**{k: value for k, value in requested.items() if value is not None})


def _find_spec(request: DatasetRequest) -> DatasetSpec:
    if request.name in DATASETS:
        return DATASETS[request.name]
    if ":" not in request.name:
        raise unknown_name("dataset", request.name, DATASETS)
    splits = load_user_dataset(request.name, request.root)
    train, test, classes = splits
    channels, height, width = train.shape
    counts = (len(train), len(test), len(set(test.labels.tolist())))
    info = DatasetInfo(len(classes), channels, (height, width), *counts)
    return DatasetSpec("your own", channels, crop_padding=0, flip=False, info=info, splits=splits)


def _scan(request: DatasetRequest) -> Tree:
    if request.root is None:
        raise UserError("dataset folder needs --data-root, the folder that holds train/ and test/")
    return scan_folder(Path(request.root).expanduser(), request.follow_links)


def _folder_info(request: DatasetRequest, tree: Tree) -> DatasetInfo:
    """Describe an image folder, and decide whether its images are streamed."""
    side = request.image_size or STREAMED_SIZE
    streamed = DatasetInfo(
        num_classes=len(tree.classes),
        in_channels=3,
        size=(side, side),
        train_images=len(tree.train),
        test_images=len(tree.test),
        test_classes=len(set(tree.test.labels.tolist())),
        streamed=True,
        val_images=len(tree.val or ()),
        notes=tree.notes,
    )
    if request.streaming or (request.streaming is None and request.crop == "resized"):
        return streamed
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
        splits = decode_tree(tree, request.image_size)
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
    augmentation = spec.crop_padding, spec.flip
    return Dataset(request.name, train, test, val, classes, mean, std, *augmentation)


def _streamed_dataset(request: DatasetRequest, spec: DatasetSpec, tree: Tree, size: int) -> Dataset:
    crop = request.crop or ("resized" if request.crop_padding is None else "padded")
    loader, root = ImageLoader(request.decoders), tree.root.absolute()
    files = [replace(split, root=root) for split in tree.splits]
    train, test, *rest = [StreamedSplit(split, size, crop, loader) for split in files]
    own_val = rest[0] if rest else None
    train, test, val = _select_images(request, train, test, own_val, tree.classes)
    mean, std = spec.mean or STREAMED_MEAN, spec.std or STREAMED_STD
    augmentation = spec.crop_padding if crop == "padded" else 0, spec.flip, crop
    classes, notes = tree.classes, tree.notes
    return Dataset(request.name, train, test, val, classes, mean, std, *augmentation, notes)


def _select_images(
    request: DatasetRequest,
    train: SplitT,
    test: SplitT,
    val: SplitT | None,
    classes: tuple[str, ...],
) -> tuple[SplitT, SplitT, SplitT | None]:
    """Return the requested images of training, test and validation.

    Raises UserError for a request that the splits do not fit.
    """
    train = balanced_subset(train, request.limit_train, "dataset.limit_train")
    test = balanced_subset(test, request.limit_test, "dataset.limit_test")
    if val is not None and request.val_share:
        raise UserError(
            f"dataset.val_share = {request.val_share}: the folder has validation images of its "
            "own, beside its test images; leave val_share out"
        )
    if val is not None:
        return train, test, val
    train, val = hold_out(train, request.val_share, classes)
    return train, test, val
