"""The dataset that an experiment describes: what is known of it at once, and its images."""

from pathlib import Path

from rkkd_cli.config.dataset import AUGMENTATION_KEYS
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.augmentation import Augmentation
from rkkd_cli.data.catalogue import DATASETS, DatasetInfo, DatasetRequest
from rkkd_cli.data.class_split import ClassSplit
from rkkd_cli.data.detection.dataset import DetectionDataset, DetectionRequest, usual_size
from rkkd_cli.data.detection.reading import DETECTION_SETS, inspect_detection, load_detection
from rkkd_cli.data.detection.scene_sets import source_of_scenes
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.reading import inspect_dataset, load_dataset, needs_download
from rkkd_cli.errors import UserError
from rkkd_cli.tasks.average_precision import require_coco_eval

OF_DETECTION = ("min_size", "max_size")


def dataset_request(experiment: Experiment) -> DatasetRequest:
    """Return the experiment's dataset of labelled images as a request to ``data``."""
    table, classes = experiment.dataset.model_dump(exclude={"classes"}), experiment.dataset.classes
    augment = Augmentation(**{key: table.pop(key) for key in AUGMENTATION_KEYS})
    split = None if classes is None else ClassSplit(classes.train, classes.test)
    table = {key: value for key, value in table.items() if key not in OF_DETECTION}
    return DatasetRequest(**table, classes=split, decoders=experiment.decoders, augment=augment)


def detection_request(experiment: Experiment) -> DetectionRequest:
    """Return the experiment's dataset of images with objects as a request to ``data``."""
    config = experiment.dataset
    return DetectionRequest(
        name=config.name,
        root=config.root,
        limit_train=config.limit_train,
        limit_test=config.limit_test,
        val_share=config.val_share,
        test_share=config.test_share,
        split_seed=config.split_seed,
        min_size=config.min_size,
        max_size=config.max_size,
        flip=config.flip,
        mean=config.mean,
        std=config.std,
        decoders=experiment.decoders,
    )


def inspect(experiment: Experiment) -> DatasetInfo:
    """Check the experiment's dataset and describe it, without decoding an image.

    Raises UserError for a dataset that is not there, or settings that it does not have.
    """
    _check_task(experiment)
    if experiment.task != "detection":
        return inspect_dataset(dataset_request(experiment))
    require_coco_eval()
    request = detection_request(experiment)
    known = inspect_detection(request)
    return DatasetInfo(
        num_classes=known.num_classes,
        in_channels=3,
        size=usual_size(usual_sides(request)),
        train_images=known.train_images,
        test_images=known.test_images,
        train_classes=known.num_classes,
        test_classes=known.num_classes,
        streamed=known.streamed,
        val_images=known.val_images,
        notes=known.notes,
        class_names=known.classes,
    )


def _check_task(experiment: Experiment) -> None:
    """Raise UserError for a dataset of classes with the task detection, and for boxes elsewhere."""
    name = experiment.dataset.name
    if experiment.task == "detection":
        if name in DATASETS or ":" in name:
            raise UserError(
                f"dataset {name} has a class for each image, and task = 'detection' needs boxes; "
                f"its datasets are {', '.join(DETECTION_SETS)}"
            )
    elif name in DETECTION_SETS:
        raise UserError(
            f"dataset {name} has images with boxes, and task = {experiment.task!r} needs a class "
            "for each; set task = 'detection', with a detector as teacher and student"
        )


def will_download(experiment: Experiment, cache: Path) -> bool:
    """Return whether :func:`load` would download the dataset."""
    if experiment.task != "detection":
        return needs_download(dataset_request(experiment), cache)
    source = source_of_scenes(detection_request(experiment))
    return source is not None and needs_download(source, cache)


def usual_sides(request: DetectionRequest) -> tuple[int, ...]:
    """Return the shorter sides that the images of a detector are resized to; none: as they are."""
    if request.min_size is not None:
        return request.min_size
    return DETECTION_SETS[request.name].min_size


def load(experiment: Experiment, cache: Path) -> Dataset | DetectionDataset:
    """Return the experiment's dataset, downloaded or decoded if needed.

    Raises UserError for a request that does not fit, RunError when a download fails.
    """
    if experiment.task == "detection":
        return load_detection(detection_request(experiment), cache)
    return load_dataset(dataset_request(experiment), cache)
