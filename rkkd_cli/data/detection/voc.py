"""Pascal VOC 2007 and 2012, as torchvision unpacks them: VOCdevkit/VOC2007, VOCdevkit/VOC2012."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.datasets import VOCDetection

from rkkd_cli.data.detection.annotations import by_image, inside
from rkkd_cli.data.detection.listing import Listing
from rkkd_cli.errors import UserError

YEARS = ("2007", "2012")
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
CATEGORIES = dict(enumerate(CLASSES, 1))
ID_OF = {name: number for number, name in CATEGORIES.items()}


def read_voc(root: Path) -> tuple[Path, dict[str, Listing]]:
    """Return the folder that holds VOCdevkit, and the training and test images in it.

    With the test images of 2007, these are tested on, and ``trainval`` of the years that are there
    is trained on; without them it is ``val`` and ``train``. Objects that are ``difficult`` are
    crowds: not trained on, and not counted. Raises UserError for a folder without either year.
    """
    if root.name == "VOCdevkit":
        root = root.parent
    years = [year for year in YEARS if (root / "VOCdevkit" / f"VOC{year}").is_dir()]
    if not years:
        raise UserError(
            f"{root} has no images of Pascal VOC; expected VOCdevkit/VOC2007 or VOCdevkit/VOC2012, "
            "each with Annotations/, ImageSets/Main/ and JPEGImages/"
        )
    has_test = (root / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "test.txt").is_file()
    train, test = ("trainval", "test") if has_test else ("train", "val")
    parts = [_read_set(root, year, train) for year in years]
    held_out = [_read_set(root, year, test) for year in (["2007"] if has_test else years)]
    note = (
        f"VOC: trained on {train} of {' and '.join(years)}, tested on {test} of "
        f"{'2007' if has_test else ' and '.join(years)}"
    )
    splits = {"train": _joined(parts), "test": _joined(held_out)}
    splits["train"] = splits["train"]._replace(notes=(note,))
    return root, splits


def _joined(parts: Sequence[Listing]) -> Listing:
    return parts[0] if len(parts) == 1 else parts[0].joined(parts[1])


def _read_set(root: Path, year: str, image_set: str) -> Listing:
    """Return the images of one set of one year."""
    try:
        dataset = VOCDetection(root, year, image_set)
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {image_set} of VOC{year} in {root}: {error}") from None
    if not dataset.images:
        raise UserError(f"VOC{year} in {root} has no images in its set {image_set!r}")
    listed_in = f"the set {image_set} of VOC{year}"
    return _read_files(root, dataset.images, dataset.annotations, listed_in)


def _read_files(
    root: Path, images: Sequence[str], annotations: Sequence[str], listed_in: str
) -> Listing:
    """Return what annotation files say."""
    parsed = [_parse(Path(path)) for path in annotations]
    sizes = np.array([_size(image, path) for image, path in zip(parsed, annotations, strict=True)])
    objects = [
        (row, found, path)
        for row, (image, path) in enumerate(zip(parsed, annotations, strict=True))
        for found in image["object"]
    ]
    image_of = np.array([row for row, _, _ in objects], np.int64)
    corners = np.array([_corners(found, path) for _, found, path in objects]).reshape(-1, 4)
    boxes = inside(
        corners,
        sizes[image_of],
        lambda row: f"an object ({objects[row][1].get('name')}) in {objects[row][2]}",
    )
    labels = np.array([_category(found, path) for _, found, path in objects], np.int64)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    difficult = np.array([found.get("difficult") == "1" for _, found, _ in objects], np.bool_)
    found = by_image(image_of, boxes, labels, areas, difficult, len(images))
    names = np.array([Path(image).relative_to(root).as_posix() for image in images])
    return Listing(names, sizes, found, CATEGORIES, listed_in)


def _parse(path: Path) -> Mapping[str, Any]:
    """Return what torchvision reads of an annotation file: always with a list of objects."""
    try:
        content: Mapping[str, Any] = VOCDetection.parse_voc_xml(ET.parse(path).getroot())
    except OSError as error:
        raise UserError(f"cannot read the annotations {path}: {error.strerror}") from None
    except (ET.ParseError, ValueError, RecursionError) as error:
        raise UserError(f"the annotations {path} are not XML: {error}") from None
    annotation = content.get("annotation")
    if not isinstance(annotation, dict) or not isinstance(annotation.get("object"), list):
        raise UserError(f"{path} is no annotation of Pascal VOC: it has no <annotation>")
    return annotation


def _size(image: Mapping[str, Any], path: str) -> tuple[int, int]:
    try:
        return int(image["size"]["height"]), int(image["size"]["width"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path} has no <size> with <height> and <width>") from None


def _corners(found: Mapping[str, Any], path: str) -> list[float]:
    """Return x0, y0, x1, y1 of a box: VOC counts pixels from 1, and the last ones are inside."""
    try:
        x0, y0, x1, y1 = (float(found["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax"))
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path} has an object without <bndbox> of numbers <xmin>, <ymin>, <xmax>, <ymax>"
        ) from None
    return [x0 - 1, y0 - 1, x1, y1]


def _category(found: Mapping[str, Any], path: str) -> int:
    name = found.get("name")
    if name not in ID_OF:
        raise UserError(
            f"{path} has an object of the category {name!r}, which is not one of VOC's: "
            f"{', '.join(CLASSES)}"
        )
    return ID_OF[name]
