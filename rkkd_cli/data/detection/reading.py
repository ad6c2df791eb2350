"""Reads detection datasets by name: what they have is told at once, images follow when needed."""

from pathlib import Path
from typing import NamedTuple

from rkkd_cli.data.detection.dataset import DetectionDataset, DetectionInfo, DetectionRequest
from rkkd_cli.data.detection.file_sets import read_files
from rkkd_cli.data.detection.scene_sets import inspect_scenes, load_scenes
from rkkd_cli.data.detection.splits import DetectionSplit
from rkkd_cli.data.reading import STREAMED_MEAN, STREAMED_STD
from rkkd_cli.errors import UserError, unknown_name

# Shorter sides of training images: those of detectron2's recipes for COCO.
USUAL_SIZES = (640, 672, 704, 736, 768, 800)


class DetectionSpec(NamedTuple):
    """A dataset's entry: what it is, its usual shorter sides, and whether images are flipped."""

    description: str
    min_size: tuple[int, ...] = USUAL_SIZES
    flip: bool = True
    are_scenes: bool = False


DETECTION_SETS: dict[str, DetectionSpec] = {
    "digits_scenes": DetectionSpec(
        "1 to 5 digits on noise, 64 to 128 px, for detection, no download",
        (), False, are_scenes=True,
    ),
    "cifar_scenes": DetectionSpec(
        "1 to 5 of CIFAR-10's images on noise, for detection; or a folder's", (), are_scenes=True
    ),
    "cifar100_scenes": DetectionSpec(
        "1 to 5 of CIFAR-100's images on noise, for detection, downloaded", (), are_scenes=True
    ),
    "coco": DetectionSpec(
        "COCO 2017, for detection: train2017/, val2017/, annotations/instances_*2017.json"
    ),
    "coco_folder": DetectionSpec(
        "your images in COCO's format, for detection: train/, annotations/instances_train.json or "
        "train/_annotations.coco.json; val/, test/"
    ),
    "voc": DetectionSpec(
        "Pascal VOC 2007 and 2012, for detection: VOCdevkit/VOC2007, VOCdevkit/VOC2012"
    ),
}  # fmt: skip


def inspect_detection(request: DetectionRequest) -> DetectionInfo:
    """Check the request and describe the dataset, without decoding an image.

    Of images on disk the annotations are read, and headers of up to 5000 images of a split. Raises
    UserError for a request that does not fit, and for annotations or images that do not.
    """
    if _checked_spec(request).are_scenes:
        return inspect_scenes(request)
    splits = read_files(request)
    return DetectionInfo(
        tuple(splits.categories.values()),
        tuple(splits.categories),
        len(splits.train),
        len(splits.test),
        len(splits.val or ()),
        _count_objects(splits.train),
        _count_objects(splits.test),
        streamed=True,
        notes=splits.notes,
    )


def load_detection(request: DetectionRequest, cache: Path) -> DetectionDataset:
    """Return the dataset; ``cache`` keeps images of scenes that are downloaded.

    Raises UserError as :func:`inspect_detection` does, RunError when a download fails.
    """
    spec = _checked_spec(request)
    splits = load_scenes(request, cache) if spec.are_scenes else read_files(request)
    return DetectionDataset(
        name=request.name,
        train=splits.train,
        test=splits.test,
        val=splits.val,
        classes=tuple(splits.categories.values()),
        category_ids=tuple(splits.categories),
        mean=request.mean or STREAMED_MEAN,
        std=request.std or STREAMED_STD,
        min_size=spec.min_size if request.min_size is None else request.min_size,
        max_size=request.max_size,
        flip=spec.flip if request.flip is None else request.flip,
        is_streamed=not spec.are_scenes,
        notes=splits.notes,
    )


def _checked_spec(request: DetectionRequest) -> DetectionSpec:
    """Return the entry of a dataset. Raises UserError for settings that it does not have."""
    if request.name not in DETECTION_SETS:
        raise unknown_name("detection dataset", request.name, DETECTION_SETS)
    spec = DETECTION_SETS[request.name]
    if spec.are_scenes and request.test_share:
        raise UserError(f"dataset.test_share is for folders; {request.name} has test scenes")
    if not spec.are_scenes and request.root is None:
        raise UserError(f"dataset {request.name} needs --data-root, its folder")
    return spec


def _count_objects(split: DetectionSplit) -> int:
    return int((~split.annotations.crowd).sum())
