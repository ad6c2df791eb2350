"""The datasets by name: their facts, usual augmentation and usual normalisation."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from rkkd_cli.data.augmentation import NO_AUGMENTATION, Augmentation
from rkkd_cli.data.images import Splits
from rkkd_cli.data.streaming.crops import Fit
from rkkd_cli.data.user_datasets import load_user_dataset
from rkkd_cli.errors import UserError, unknown_name


class DatasetInfo(NamedTuple):
    """What is known of a dataset before its images are read.

    ``size`` is the images' height and width. ``streamed``: they are read from disk batch by batch.
    The counts are those of the splits as a run uses them, and of the ``unused_images`` beyond its
    limits.
    """

    num_classes: int
    in_channels: int
    size: tuple[int, int]
    train_images: int
    test_images: int
    test_classes: int
    streamed: bool = False
    val_images: int = 0
    unused_images: int = 0
    notes: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """The number of all images that there are."""
        return self.train_images + self.val_images + self.test_images + self.unused_images

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
        "your images: ROOT/train/<class>/*, test/, val/; or ROOT/<class>/*; streamed if large",
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
    test_share: float = 0.0
    split_seed: int = 0
    resize: Fit = "crop"
    follow_links: bool = False
    streaming: bool | None = None
    crop: str | None = None
    decoders: int | None = None
    augment: Augmentation = NO_AUGMENTATION


def checked_spec(request: DatasetRequest) -> DatasetSpec:
    """Return the dataset's entry with the requested augmentation and normalisation.

    Raises UserError for settings that the dataset does not have.
    """
    spec = _find_spec(request)
    if request.name != "folder":
        _check_no_folder_settings(request)
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
    }
    for setting, (is_given, reason) in settings.items():
        if is_given:
            raise UserError(f"dataset.{setting} is for image folders; {request.name} {reason}")


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
