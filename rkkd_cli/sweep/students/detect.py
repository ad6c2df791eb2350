"""Applies a trained detector to image files or to the images of a dataset, and draws its boxes."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.font_manager import findfont
from PIL import Image
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from rkkd_cli.data.detection.annotations import Annotations
from rkkd_cli.data.detection.batches import DetectionImages
from rkkd_cli.data.detection.dataset import DetectionDataset, DetectionRequest
from rkkd_cli.data.detection.loading import decode_files
from rkkd_cli.data.detection.reading import load_detection
from rkkd_cli.data.detection.splits import DetectionSplit, FileSplit
from rkkd_cli.data.streaming.decode import read_size
from rkkd_cli.data.streaming.loader import ImageLoader
from rkkd_cli.errors import UserError
from rkkd_cli.models.detection.detector import Detections, Detector
from rkkd_cli.sweep.datasets import detection_request, usual_sides
from rkkd_cli.sweep.students.student import Student
from rkkd_cli.tasks.average_precision import AveragePrecision, require_coco_eval
from rkkd_cli.train.regions import found_in_split

FEW_FILES = 64  # are decoded before other processes would have started
READABLE = 320  # pixels of the shorter side of an image with texts
LINE_SHARE = 200  # a box's line is this part of the image's shorter side
FONT_WIDTHS = 7  # a text's height in widths of a line
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#555555", "#882255")  # of the classes


class FoundInFile(NamedTuple):
    """What is found in an image file, the best first. Boxes are in pixels of the file."""

    path: Path
    detections: Detections


class MeasuredDetector(NamedTuple):
    """COCO's metrics of a detector in percent, by name, on so many images."""

    images: int
    metrics: dict[str, float]


def detect(
    student: Student, files: Sequence[Path], device: torch.device, threshold: float
) -> Iterator[FoundInFile]:
    """Yield the detections in each image whose score is at least the threshold.

    The images are resized and normalised as the test images of the run. Raises UserError for one
    that cannot be decoded.
    """
    split = _split_of(files, student)
    images = DetectionImages(split, _dataset_of(split, student), device)
    detector = _detector(student).to(device)
    found_in_files = found_in_split(detector, images, student.experiment.precision)
    for path, found in zip(files, found_in_files, strict=True):
        boxes, labels, scores = (tensor.float().cpu() for tensor in found.detections)
        order = scores.argsort(descending=True, stable=True)
        kept = order[scores[order] >= threshold]
        yield FoundInFile(path, Detections(boxes[kept], labels[kept].long(), scores[kept]))


def _split_of(files: Sequence[Path], student: Student) -> FileSplit:
    sizes = [read_size(path)[::-1] for path in files]
    decoders = 0 if len(files) <= FEW_FILES else student.experiment.decoders
    return FileSplit(
        root=Path(),
        names=np.array([str(path.absolute()) for path in files]),
        sizes=np.array(sizes, dtype=np.int64),
        annotations=Annotations.none(len(files)),
        loader=ImageLoader(decoders, decode_files),
    )


def _dataset_of(split: FileSplit, student: Student) -> DetectionDataset:
    """Return the images as those of a dataset that are shown as the run's test images were."""
    facts, request = student.facts, detection_request(student.experiment)
    return DetectionDataset(
        name=facts.dataset,
        train=split,
        test=split,
        val=None,
        classes=facts.class_names,
        category_ids=tuple(range(facts.classes)),
        mean=facts.mean,
        std=facts.std,
        min_size=usual_sides(request),
        max_size=request.max_size,
        flip=False,
        is_streamed=True,
    )


def _detector(student: Student) -> Detector:
    assert isinstance(student.module, Detector)
    return student.module


def drawn_files(files: Sequence[Path], folder: Path) -> list[Path]:
    """Return the PNG files of a folder to which images are drawn, in subfolders as theirs.

    Raises UserError if one of them is an image itself, or is that of two.
    """
    absolute = [path.absolute() for path in files]
    common = Path(os.path.commonpath([path.parent for path in absolute]))
    targets = [folder / path.relative_to(common).with_suffix(".png") for path in absolute]
    sources = {path.resolve() for path in absolute}
    for target in targets:
        if target.resolve() in sources:
            raise UserError(
                f"--draw {folder} would replace the image {target}; name another folder"
            )
    twice = next((target for target in targets if targets.count(target) > 1), None)
    if twice is not None:
        raise UserError(f"two images would be drawn to {twice}; draw one of them elsewhere")
    return targets


def draw(pixels: Tensor, found: Detections, names: Sequence[str]) -> Image.Image:
    """Return an image (3, H, W) uint8 with boxes, and the class and score in percent of each.

    The best one is on top. A small image is enlarged by a whole factor, so that the texts are
    readable.
    """
    found = Detections(*(of_all.flip(0) for of_all in found))
    factor = max(1, -(-READABLE // min(pixels.shape[1:])))
    pixels = pixels.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    if not len(found.labels):
        return Image.fromarray(pixels.permute(1, 2, 0).numpy())
    pairs = zip(found.labels.tolist(), found.scores.tolist(), strict=True)
    texts = [f"{names[label]} {100 * score:.0f} %" for label, score in pairs]
    width = max(2, min(pixels.shape[1:]) // LINE_SHARE)
    drawn = draw_bounding_boxes(
        pixels,
        found.boxes * factor,
        labels=texts,
        colors=[COLOURS[label % len(COLOURS)] for label in found.labels.tolist()],
        width=width,
        font=findfont("DejaVu Sans"),
        font_size=FONT_WIDTHS * width,
        label_colors=["white"] * len(texts),
        fill_labels=True,
    )
    return Image.fromarray(drawn.permute(1, 2, 0).numpy())


def evaluate_detectors(
    students: Sequence[Student], root: Path | None, split: str, cache: Path, device: torch.device
) -> Iterator[MeasuredDetector]:
    """Measure each detector on a split of its run's images, or of those in a folder ``root``.

    The folder is in the format of the run's, and of one on scenes in COCO's. Raises UserError if
    there is no such split, or if the folder has other categories.
    """
    require_coco_eval()
    read: dict[DetectionRequest, DetectionDataset] = {}
    for student in students:
        request = _request(student, root)
        if request not in read:
            read[request] = load_detection(request, cache)
        dataset = read[request]
        if dataset.classes != student.facts.class_names:
            raise UserError(
                f"{root or dataset.name} has the categories {', '.join(dataset.classes)}, and "
                f"{student.name} finds {', '.join(student.facts.class_names)}"
            )
        images = DetectionImages(_named_split(dataset, split), dataset, device)
        found = AveragePrecision()
        detector = _detector(student).to(device)
        for image in found_in_split(detector, images, student.experiment.precision):
            found.add(image.detections, image.objects, image.number)
        yield MeasuredDetector(len(images), found.values())


def _request(student: Student, root: Path | None) -> DetectionRequest:
    """Return the request for the run's images, normalised as in the run, or for those of a root."""
    facts, request = student.facts, detection_request(student.experiment)
    request = replace(request, mean=facts.mean, std=facts.std)
    if root is None:
        return request
    are_scenes = request.name.endswith("_scenes")
    return replace(
        request,
        name="coco_folder" if are_scenes else request.name,
        root=str(root),
        limit_train=None,
        limit_test=None,
        min_size=usual_sides(request),
    )


def _named_split(dataset: DetectionDataset, name: str) -> DetectionSplit:
    split = {"test": dataset.test, "val": dataset.val, "train": dataset.train}[name]
    if split is None:
        raise UserError("there are no validation images; --split takes test or train")
    return split
