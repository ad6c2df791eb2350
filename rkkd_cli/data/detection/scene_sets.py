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


def source_of_scenes(request: DetectionRequest) -> DatasetRequest | None:
    """Return the dataset whose images scenes show; None for datasets that are no scenes.

    CIFAR's images may be those that torchvision downloads, or an image folder. Raises UserError for
    a number of classes that there is not.
    """
    if request.name == "digits_scenes":
        if request.root is not None or request.num_classes not in (None, 10):
            raise UserError(
                "digits_scenes shows the 10 digits inside scikit-learn: it has no --data-root and "
                "no dataset.num_classes; for images of your own take --dataset coco_folder"
            )
        return DatasetRequest("digits")
    if request.name != "cifar_scenes":
        return None
    if request.root is not None and (Path(request.root).expanduser() / "train").is_dir():
        return DatasetRequest("folder", request.root, image_size=32, streaming=False)
    if request.num_classes not in (None, 10, 100):
        raise UserError(
            f"dataset.num_classes = {request.num_classes}: cifar_scenes has 10 or 100 classes"
        )
    return DatasetRequest(f"cifar{request.num_classes or 10}", request.root)


def inspect_scenes(request: DetectionRequest) -> DetectionInfo:
    """Describe scenes that are not made yet. Raises UserError for a request that does not fit."""
    source = source_of_scenes(request)
    assert source is not None
    known = inspect_dataset(source)
    _check_classes(request, known.num_classes)
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
    train, test = request.train_scenes or TRAIN_SCENES, request.test_scenes or TEST_SCENES
    train, test = min(train, request.limit_train or train), min(test, request.limit_test or test)
    val = held_out_count(train, request.val_share, "val_share") if request.val_share else 0
    return train - val, val, test


def _check_classes(request: DetectionRequest, num_classes: int) -> None:
    if request.num_classes not in (None, num_classes):
        raise UserError(
            f"dataset.num_classes = {request.num_classes}: the images of {request.root} have "
            f"{num_classes} classes"
        )


def load_scenes(request: DetectionRequest, cache: Path) -> DetectionSplits:
    """Return scenes for training, testing and validation: no image stands in those of two splits.

    Raises UserError for a request that does not fit, RunError when a download fails.
    """
    source = source_of_scenes(request)
    assert source is not None
    images = load_dataset(source, cache)
    _check_classes(request, len(images.classes))
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
