"""The datasets by name: their facts, usual augmentation and usual normalisation."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rkkd_cli.data.augmentation import NO_AUGMENTATION, Augmentation
from rkkd_cli.data.class_split import ClassSplit
from rkkd_cli.data.images import Splits
from rkkd_cli.data.retrieval_sets import RETRIEVAL_SETS
from rkkd_cli.data.streaming.crops import Fit
from rkkd_cli.data.subsets import Labels
from rkkd_cli.data.user_datasets import load_user_dataset
from rkkd_cli.errors import UserError, unknown_name


class DatasetInfo(NamedTuple):
    """What is known of a dataset before its images are read.

    ``size`` is the images' height and width. ``streamed``: they are read from disk batch by batch.
    The counts are those of the splits as a run uses them, and of the ``unused_images`` beyond its
    limits. ``train_classes`` and ``test_classes``: how many classes a split has.
    ``class_names``: those of objects.
    """

    num_classes: int
    in_channels: int
    size: tuple[int, int]
    train_images: int
    test_images: int
    train_classes: int
    test_classes: int
    streamed: bool = False
    val_images: int = 0
    unused_images: int = 0
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """The number of all images that there are."""
        return self.train_images + self.val_images + self.test_images + self.unused_images

    @property
    def decoded_bytes(self) -> int:
        """The bytes of all images in memory."""
        return self.in_channels * self.size[0] * self.size[1] * self.images


class ClassCounts(NamedTuple):
    """The number of images of each class, in the training and in the test split."""

    train: tuple[int, ...]
    test: tuple[int, ...]

    @property
    def splits(self) -> tuple[Labels, Labels, tuple[str, ...]]:
        """The labels of both splits, sorted, and the classes' numbers as their names."""
        train, test = (np.repeat(np.arange(len(counts)), counts) for counts in self)
        return Labels(train), Labels(test), tuple(map(str, range(len(self.train))))


class DatasetSpec(NamedTuple):
    """A dataset's entry in the catalogue: its facts, usual augmentation and normalisation.

    ``size`` and ``counts`` are None for image files, which have to be scanned. Without ``mean`` and
    ``std`` they are measured. ``is_one_set``: the dataset was published without a test split.
    ``splits`` are the images of a user's own dataset, read to learn what it has.
    """

    description: str
    in_channels: int
    crop_padding: int
    flip: bool
    size: tuple[int, int] | None = None
    counts: ClassCounts | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    is_one_set: bool = False
    splits: Splits | None = None


DATASETS: dict[str, DatasetSpec] = {
    "digits": DatasetSpec(
        "8×8 grey digits inside scikit-learn, no download", 1, 1, False, (8, 8),
        ClassCounts((138, 142, 137, 143, 141, 142, 141, 139, 134, 140), (40,) * 10),
        is_one_set=True,
    ),
    "cifar10": DatasetSpec(
        "32×32 colour, 50,000 + 10,000 images, downloaded", 3, 4, True, (32, 32),
        ClassCounts((5000,) * 10, (1000,) * 10),
        (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
    ),
    "cifar100": DatasetSpec(
        "32×32 colour, 50,000 + 10,000 images, downloaded", 3, 4, True, (32, 32),
        ClassCounts((500,) * 100, (100,) * 100),
        (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761),
    ),
    "fashion_mnist": DatasetSpec(
        "28×28 grey, 60,000 + 10,000 images, downloaded", 1, 2, True, (28, 28),
        ClassCounts((6000,) * 10, (1000,) * 10),
        (0.2860,), (0.3530,),
    ),
    "svhn": DatasetSpec(
        "32×32 colour house numbers, 73,257 + 26,032 images, downloaded", 3, 4, False, (32, 32),
        ClassCounts(
            (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
            (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
        ),
        (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970),
    ),
    "folder": DatasetSpec(
        "your images: ROOT/train/<class>/*, test/, val/; or ROOT/<class>/*; streamed if large",
        3, 4, True,
    ),
    "cub200": DatasetSpec("CUB-200-2011: 100 kinds of birds to train on, 100 others", 3, 4, True),
    "cars196": DatasetSpec("Cars196: 98 models of cars to train on, 98 others", 3, 4, True),
    "sop": DatasetSpec(
        "Stanford Online Products: 11,318 products to train on, 11,316 others", 3, 4, True
    ),
}  # fmt: skip


def has_image_files(name: str) -> bool:
    """Whether a dataset's images are files on the user's disk, which have to be scanned."""
    return name in DATASETS and DATASETS[name].size is None


@dataclass(frozen=True)
class DatasetRequest:
    """The dataset that is wanted, and how to read and augment it.

    None means the dataset's own default. ``classes``: those to train on and those to test on; the
    default is all, or a dataset's published split. ``decoders`` is the number of processes that
    decode the images of a streamed dataset.
    """

    name: str
    root: str | None = None
    classes: ClassSplit | None = None
    image_size: int | None = None
    crop_padding: int | None = None
    flip: bool | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    limit_train: int | None = None
    limit_test: int | None = None
    val_share: float = 0.0
    test_share: float = 0.0
    split_seed: int = 0
    resize: Fit = "crop"
    follow_links: bool = False
    streaming: bool | None = None
    crop: str | None = None
    decoders: int | None = None
    augment: Augmentation = NO_AUGMENTATION

    @property
    def is_split_by_class(self) -> bool:
        """Whether the images that are tested on have other classes than those trained on."""
        return self.classes is not None or self.name in RETRIEVAL_SETS


def checked_spec(request: DatasetRequest) -> DatasetSpec:
    """Return the dataset's entry with the requested augmentation and normalisation.

    Raises UserError for settings that the dataset does not have.
    """
    spec = _find_spec(request)
    if spec.size is not None:
        _check_no_folder_settings(request)
    if request.name in RETRIEVAL_SETS and request.test_share:
        raise UserError(
            f"dataset.test_share is for image folders; {request.name} has classes to test on"
        )
    if request.root is not None and request.name == "digits":
        raise UserError(
            "digits ships inside scikit-learn and has no --data-root; for images of your own take "
            "the preset my_images, or add --dataset folder"
        )
    for key, values in (("mean", request.mean), ("std", request.std)):
        if values is not None and len(values) != spec.in_channels:
            example = ",".join(["0.5"] * spec.in_channels)
            raise UserError(
                f"dataset.{key} has {len(values)} values, {request.name} has "
                f"{spec.in_channels} channels; write dataset.{key}={example} or the like"
            )
    request.augment.check_channels(spec.in_channels)
    keys = ("crop_padding", "flip", "mean", "std")
    requested: dict[str, Any] = {key: getattr(request, key) for key in keys}
    return spec._replace(**{k: value for k, value in requested.items() if value is not None})


def _check_no_folder_settings(request: DatasetRequest) -> None:
    """Raise UserError for a setting of image folders."""
    settings = {
        "image_size": (request.image_size is not None, "has its own size"),
        "resize": (request.resize != "crop", "has its own size"),
        "test_share": (request.test_share > 0, "has test images of its own"),
        "streaming = true": (bool(request.streaming), "is held in memory"),
        "crop = 'window'": (request.crop == "window", "is held in memory"),
    }
    for setting, (is_given, reason) in settings.items():
        if is_given:
            raise UserError(f"dataset.{setting} is for image folders; {request.name} {reason}")


def _find_spec(request: DatasetRequest) -> DatasetSpec:
    if request.name in DATASETS:
        return DATASETS[request.name]
    if ":" not in request.name:
        raise unknown_name("dataset", request.name, DATASETS)
    splits = load_user_dataset(request.name, request.root, by_class=request.classes is not None)
    channels, height, width = splits[0].shape
    return DatasetSpec("your own", channels, 0, False, (height, width), splits=splits)
