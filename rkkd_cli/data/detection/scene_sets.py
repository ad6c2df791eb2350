"""Datasets of scenes: whose images they show, and how many there are."""

from pathlib import Path

from rkkd_cli.data.catalogue import DatasetRequest
from rkkd_cli.data.detection.dataset import (
    DetectionInfo,
    DetectionRequest,
    DetectionSplits,
    held_out_count,
)
from rkkd_cli.data.detection.scenes import make_scenes
from rkkd_cli.data.images import LabelledImages
from rkkd_cli.data.reading import inspect_dataset, load_dataset
from rkkd_cli.data.subsets import check_hold_out, hold_out
from rkkd_cli.errors import UserError

TRAIN_SCENES, TEST_SCENES = 1000, 300
CIFAR = {"cifar_scenes": "cifar10", "cifar100_scenes": "cifar100"}


def source_of_scenes(request: DetectionRequest) -> DatasetRequest | None:
    """Return the dataset whose images scenes show; None for datasets that are no scenes.

    CIFAR's images may be those that torchvision downloads, or an image folder. Raises UserError for
    a root that scenes do not have.
    """
    if request.name == "digits_scenes":
        if request.root is not None:
            raise UserError(
                "digits_scenes shows the 10 digits inside scikit-learn and has no --data-root; for "
                "images of your own take --dataset coco_folder"
            )
        return DatasetRequest("digits")
    if request.name not in CIFAR:
        return None
    if request.root is not None and (Path(request.root).expanduser() / "train").is_dir():
        return DatasetRequest("folder", request.root, image_size=32, streaming=False)
    return DatasetRequest(CIFAR[request.name], request.root)


def inspect_scenes(request: DetectionRequest) -> DetectionInfo:
    """Describe scenes that are not made yet. Raises UserError for a request that does not fit."""
    source = source_of_scenes(request)
    assert source is not None
    known = inspect_dataset(source)
    train, val, test = _scene_counts(request)
    if val:
        check_hold_out(
            request.val_share, known.train_images, known.num_classes, "dataset.val_share"
        )
    numbers = tuple(range(known.num_classes))
    names = tuple(map(str, numbers))
    return DetectionInfo(names, numbers, train, test, val, None, None, streamed=False)


def _scene_counts(request: DetectionRequest) -> tuple[int, int, int]:
    """Return how many scenes are made for training, validation and testing."""
    train, test = request.limit_train or TRAIN_SCENES, request.limit_test or TEST_SCENES
    val = held_out_count(train, request.val_share, "val_share") if request.val_share else 0
    return train - val, val, test


def load_scenes(request: DetectionRequest, cache: Path) -> DetectionSplits:
    """Return scenes for training, testing and validation: no image stands in those of two splits.

    Raises UserError for a request that does not fit, RunError when a download fails.
    """
    source = source_of_scenes(request)
    assert source is not None
    images = load_dataset(source, cache)
    assert isinstance(images.train, LabelledImages)
    assert isinstance(images.test, LabelledImages)
    train, val, test = _scene_counts(request)
    trained, held_out = hold_out(images.train, request.val_share, images.classes)
    seed = request.split_seed
    return DetectionSplits(
        make_scenes(trained, "train", seed, train),
        make_scenes(images.test, "test", seed, test),
        None if held_out is None else make_scenes(held_out, "val", seed, val),
        dict(enumerate(images.classes)),
    )
