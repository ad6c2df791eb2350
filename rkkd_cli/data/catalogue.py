"""The datasets by name: where they come from, their usual augmentation and normalisation.

An image folder is streamed from the disk where it is told to be, or where its decoded images would
take more than ``MOST_RESIDENT`` bytes: that depends on the folder and the settings alone, not on
the machine, so that the same experiment gives the same numbers everywhere.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rkkd_cli.data.digits import load_digits
from rkkd_cli.data.folder_arrays import (
    decode_tree,
    image_shape,
    read_arrays,
    tree_key,
    write_arrays,
)
from rkkd_cli.data.folder_scan import Tree, scan_folder
from rkkd_cli.data.images import (
    Dataset,
    LabelledImages,
    SomeSplit,
    balanced_subset,
    channel_statistics,
    check_hold_out,
    check_subset,
    hold_out,
)
from rkkd_cli.data.streaming.pool import Decoders
from rkkd_cli.data.streaming.split import ListedImages
from rkkd_cli.data.user_datasets import Splits, load_own
from rkkd_cli.errors import UserError, unknown_name

MOST_RESIDENT = 4 * 2**30
STREAMED_SIZE = 224
# ImageNet's, which the field uses for photographs: to measure a stream takes an epoch.
STREAMED_MEAN, STREAMED_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Shape(NamedTuple):
    """What there is to know of a dataset before it is read; ``streamed``: batch by batch."""

    num_classes: int
    in_channels: int
    size: tuple[int, int]
    train_images: int
    test_images: int
    test_classes: int
    streamed: bool = False

    @property
    def decoded_bytes(self) -> int:
        """The bytes of all images in memory."""
        images = self.train_images + self.test_images
        return self.in_channels * self.size[0] * self.size[1] * images


class Definition(NamedTuple):
    """What the field uses for a dataset. Without mean and std they are measured.

    ``shape`` is None where only the files can tell; ``splits`` are those of a user's own dataset,
    whose function alone can tell.
    """

    description: str
    in_channels: int
    crop_padding: int
    flip: bool
    shape: Shape | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    splits: Splits | None = None


DATASETS: dict[str, Definition] = {
    "digits": Definition(
        "8×8 grey digits inside scikit-learn, no download", 1, 1, False,
        Shape(10, 1, (8, 8), 1397, 400, 10),
    ),
    "cifar10": Definition(
        "32×32 colour, 50,000 + 10,000 images, downloaded", 3, 4, True,
        Shape(10, 3, (32, 32), 50_000, 10_000, 10),
        (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
    ),
    "cifar100": Definition(
        "32×32 colour, 50,000 + 10,000 images, downloaded", 3, 4, True,
        Shape(100, 3, (32, 32), 50_000, 10_000, 100),
        (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761),
    ),
    "fashion_mnist": Definition(
        "28×28 grey, 60,000 + 10,000 images, downloaded", 1, 2, True,
        Shape(10, 1, (28, 28), 60_000, 10_000, 10),
        (0.2860,), (0.3530,),
    ),
    "svhn": Definition(
        "32×32 colour house numbers, 73,257 + 26,032 images, downloaded", 3, 4, False,
        Shape(10, 3, (32, 32), 73_257, 26_032, 10),
        (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970),
    ),
    "folder": Definition(
        "your images: ROOT/train/<class>/* and ROOT/test/<class>/* (or val/); streamed if large",
        3, 4, True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class DatasetRequest:
    """Which dataset, cut and augmented how; None means the dataset's own default.

    ``decoders`` is the number of processes that decode a streamed one.
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


def peek(request: DatasetRequest) -> Shape:
    """Check the request and return the dataset's shape, without decoding or writing anything."""
    shape = _shape(request, _definition(request))
    train_images, classes = request.limit_train or shape.train_images, shape.num_classes
    check_subset(train_images, shape.train_images, classes, "dataset.limit_train")
    test_images = request.limit_test or shape.test_images
    check_subset(test_images, shape.test_images, shape.test_classes, "dataset.limit_test")
    if request.val_share:
        check_hold_out(request.val_share, train_images, classes)
    return shape


def _shape(request: DatasetRequest, definition: Definition) -> Shape:
    if definition.shape is None:
        return _folder_shape(request, scan_folder(_folder_root(request), request.follow_links))
    return definition.shape


def _folder_shape(request: DatasetRequest, tree: Tree) -> Shape:
    """Return the shape, which tells whether the images are streamed."""
    counts = len(tree.train.labels), len(tree.test.labels), len(set(tree.test.labels.tolist()))
    side = request.image_size or STREAMED_SIZE
    streamed = Shape(len(tree.classes), 3, (side, side), *counts, streamed=True)
    if request.streaming or (request.streaming is None and request.crop == "resized"):
        return streamed
    resident = streamed._replace(size=image_shape(tree, request.image_size), streamed=False)
    is_too_large = resident.decoded_bytes > MOST_RESIDENT
    return streamed if request.streaming is None and is_too_large else resident


def needs_download(request: DatasetRequest, cache: Path) -> bool:
    """Tell whether :func:`load_dataset` would fetch the dataset first."""
    if request.name in ("digits", "folder") or ":" in request.name:
        return False
    from rkkd_cli.data.torchvision_sets import is_present

    return not is_present(request.name, _download_root(request, cache))


def load_dataset(request: DatasetRequest, cache: Path) -> Dataset:
    """Return the dataset, downloaded or decoded as needed; ``cache`` keeps what that yields.

    Raises UserError for a request that does not fit, RunError when a download fails.
    """
    definition = _definition(request)
    if request.name == "folder":
        tree = scan_folder(_folder_root(request), request.follow_links)
        shape = _folder_shape(request, tree)
        if shape.streamed:
            return _streamed(request, definition, tree, shape)
        splits = _decoded(request, tree, cache)
    else:
        splits = definition.splits or _read_splits(request, cache)
    train, test, val = _chosen(request, *splits[:2])
    mean, std = _normalisation(request, definition, train)
    padding, flip = _augmentation(request, definition)
    return Dataset(request.name, train, test, val, splits[2], mean, std, padding, flip)


def _streamed(request: DatasetRequest, definition: Definition, tree: Tree, shape: Shape) -> Dataset:
    padding, flip = _augmentation(request, definition)
    crop = request.crop or ("resized" if request.crop_padding is None else "padded")
    decoders, root = Decoders(request.decoders), tree.root.absolute()
    splits = [
        ListedImages(files._replace(root=root), shape.size[0], crop, decoders)
        for files in (tree.train, tree.test)
    ]
    train, test, val = _chosen(request, *splits)
    mean, std = request.mean or STREAMED_MEAN, request.std or STREAMED_STD
    padding = padding if crop == "padded" else 0
    return Dataset(request.name, train, test, val, tree.classes, mean, std, padding, flip, crop)


def _chosen(
    request: DatasetRequest, train: SomeSplit, test: SomeSplit
) -> tuple[SomeSplit, SomeSplit, SomeSplit | None]:
    """Return the images of training, test and validation that are asked for."""
    train = balanced_subset(train, request.limit_train, "dataset.limit_train")
    test = balanced_subset(test, request.limit_test, "dataset.limit_test")
    train, val = hold_out(train, request.val_share)
    return train, test, val


def _augmentation(request: DatasetRequest, definition: Definition) -> tuple[int, bool]:
    """Return the padding of the crops, and whether images are flipped."""
    padding, flip = request.crop_padding, request.flip
    return (
        definition.crop_padding if padding is None else padding,
        definition.flip if flip is None else flip,
    )


def _definition(request: DatasetRequest) -> Definition:
    definition = _of_name(request)
    if request.image_size is not None and request.name != "folder":
        raise UserError(f"dataset.image_size is for image folders; {request.name} has its own size")
    on_disk = {"streaming = true": request.streaming, "crop = 'resized'": request.crop == "resized"}
    for setting, wanted in on_disk.items():
        if wanted and request.name != "folder":
            raise UserError(
                f"dataset.{setting} is for image folders; {request.name} is held in memory"
            )
    if request.root is not None and request.name == "digits":
        raise UserError(
            "digits ships inside scikit-learn and has no --data-root; for images of your own add "
            "--dataset folder"
        )
    for key, values in (("mean", request.mean), ("std", request.std)):
        if values is not None and len(values) != definition.in_channels:
            raise UserError(
                f"dataset.{key} has {len(values)} values, {request.name} has "
                f"{definition.in_channels} channels"
            )
    return definition


def _of_name(request: DatasetRequest) -> Definition:
    if request.name in DATASETS:
        return DATASETS[request.name]
    if ":" not in request.name:
        raise unknown_name("dataset", request.name, DATASETS)
    splits = load_own(request.name, request.root)
    train, test, classes = splits
    channels, height, width = train.images.shape[1:]
    counts = (len(train), len(test), len(set(test.labels.tolist())))
    shape = Shape(len(classes), channels, (height, width), *counts)
    return Definition("your own", channels, crop_padding=0, flip=False, shape=shape, splits=splits)


def _read_splits(request: DatasetRequest, cache: Path) -> Splits:
    if request.name == "digits":
        return load_digits()
    from rkkd_cli.data.torchvision_sets import load_torchvision

    return load_torchvision(request.name, _download_root(request, cache))


def _decoded(request: DatasetRequest, tree: Tree, cache: Path) -> Splits:
    path = cache / "arrays" / f"{tree_key(tree, request.image_size)}.npz"
    splits = read_arrays(path)
    if splits is None:
        splits = decode_tree(tree, request.image_size)
        write_arrays(path, *splits)
    return *splits, tree.classes


def _folder_root(request: DatasetRequest) -> Path:
    if request.root is None:
        raise UserError("dataset folder needs --data-root, the folder that holds train/ and test/")
    return Path(request.root).expanduser()


def _download_root(request: DatasetRequest, cache: Path) -> Path:
    return cache / "downloads" if request.root is None else Path(request.root).expanduser()


def _normalisation(
    request: DatasetRequest, definition: Definition, train: LabelledImages
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    stated = (request.mean or definition.mean, request.std or definition.std)
    if stated[0] is not None and stated[1] is not None:
        return stated[0], stated[1]
    measured = channel_statistics(train.images)
    return stated[0] or measured[0], stated[1] or measured[1]
