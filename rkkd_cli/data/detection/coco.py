"""Annotations in COCO's format (https://cocodataset.org/#format-data), and where they are found."""

import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.data.detection.annotations import (
    Annotations,
    by_image,
    clipped,
    has_area,
    inside,
)
from rkkd_cli.data.detection.listing import Listing, repeated
from rkkd_cli.data.folder_scan import SPLIT_NAMES
from rkkd_cli.data.subsets import Indices
from rkkd_cli.errors import UserError, first_of

# The keys that are read, and what they have to be.
NO_TRAINING_IMAGES = "there are no annotations of training images"
CATEGORY_KEYS = {"id": "a whole number", "name": "text"}
IMAGE_KEYS = {"id": "a name", "file_name": "text", "height": "a number", "width": "a number"}
OBJECT_KEYS = {"image_id": "a name", "category_id": "a whole number", "bbox": "a list"}
TYPES: dict[str, tuple[type, ...]] = {
    "a whole number": (int,),
    "a name": (int, str),
    "a number": (int, float),
    "text": (str,),
    "a list": (list,),
}
MAX_SHOWN_IDS = 10
MAX_SIDE = 10**6  # pixels
ROBOFLOW_FILE = "_annotations.coco.json"
COCO_LAYOUT = (
    "train2017/, val2017/ and annotations/instances_{train,val}2017.json; for other folders take "
    "--dataset coco_folder"
)
FOLDER_LAYOUT = (
    "train/ with annotations/instances_train.json or train/_annotations.coco.json, and the same "
    "for val/ (or valid/) or test/; for COCO 2017 itself take --dataset coco"
)


class Source(NamedTuple):
    """An annotation file, and the folder of its images."""

    annotations: Path
    images: Path


def find_coco(root: Path) -> dict[str, Source]:
    """Return the files of COCO 2017. Raises UserError for a folder that lacks one."""
    sources = {
        split: Source(root / "annotations" / f"instances_{name}.json", root / name)
        for split, name in (("train", "train2017"), ("test", "val2017"))
    }
    for annotations, images in sources.values():
        if not annotations.is_file():
            raise _without_annotations(root, f"there is no file {annotations}", COCO_LAYOUT)
        if not images.is_dir():
            raise _without_annotations(root, f"there is no folder {images}", COCO_LAYOUT)
    return sources


def find_coco_folder(root: Path) -> dict[str, Source]:
    """Return the annotation files below ``root`` by split. Raises UserError without ``train``."""
    sources: dict[str, Source] = {}
    for split, names in SPLIT_NAMES.items():
        found = [source for name in names for source in _sources(root, name)]
        if len(found) > 1:
            both = f"{found[0].annotations} and {found[1].annotations}"
            raise UserError(f"{both} are annotations of the same images; remove one of them")
        if found:
            sources[split] = found[0]
    if "train" not in sources:
        raise _without_annotations(root, NO_TRAINING_IMAGES, FOLDER_LAYOUT)
    return sources


def _sources(root: Path, name: str) -> list[Source]:
    paths = (root / "annotations" / f"instances_{name}.json", root / name / ROBOFLOW_FILE)
    return [Source(path, root / name) for path in paths if path.is_file()]


def _without_annotations(root: Path, problem: str, layout: str) -> UserError:
    if not root.is_dir():
        return UserError(f"no such folder: {root}")
    return UserError(f"{root} is no folder in COCO's format: {problem}; expected {layout}")


def read_coco(source: Source, root: Path, is_coco: bool) -> Listing:
    """Return what an annotation file lists.

    Boxes without area and outside of images are refused, but cut off or left out ``is_coco``: of
    COCO itself, which has a few of them, and whose own tools do the same. Raises UserError for what
    is not COCO's format.
    """
    try:
        facts = source.annotations.stat()
    except OSError as error:
        raise _unreadable(source.annotations, error) from None
    with _no_garbage_collection():
        try:
            return _read(source, root, is_coco, (facts.st_mtime_ns, facts.st_size))
        except OverflowError:
            raise UserError(f"{source.annotations} has a number that is too large") from None


@lru_cache(maxsize=4)
def _read(source: Source, root: Path, is_coco: bool, version: tuple[int, int]) -> Listing:
    """Return what this version of a file lists: COCO's takes seconds, so it is read once."""
    path = source.annotations
    content = _load(path)
    categories = dict(_values(content, "categories", CATEGORY_KEYS, path))
    images = _values(content, "images", IMAGE_KEYS, path)
    objects = _values(content, "annotations", OBJECT_KEYS, path)
    for kind, ids in (
        ("images", [image[0] for image in images]),
        ("categories", [category["id"] for category in content["categories"]]),
    ):
        if twice := repeated(ids):
            raise UserError(f"{path} has two {kind} with the id {twice[0]!r}; remove one of them")
    if not images or not categories:
        raise UserError(f"{path} lists no {'images' if categories else 'categories'}")
    folder = source.images.relative_to(root).as_posix()
    listed = Listing(
        np.array([f"{folder}/{_checked_name(image[1], path)}" for image in images]),
        _sizes(images, path),
        Annotations.none(len(images)),
        categories,
        str(path),
    )
    row_of = {image[0]: row for row, image in enumerate(images)}
    image_of = np.array([row_of.get(image, -1) for image, _, _ in objects], np.int64)
    return _with_objects(listed, content["annotations"], image_of, path, is_coco)


def _sizes(images: Sequence[tuple[Any, ...]], path: Path) -> Indices:
    """Return height and width of each image, (N, 2)."""
    for _, name, height, width in images:
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
            raise UserError(f"{path} gives the image {name} {width}×{height} pixels; correct that")
    return np.array([image[2:] for image in images]).astype(np.int64)


def _with_objects(
    listed: Listing,
    entries: Sequence[Mapping[str, Any]],
    image_of: Indices,
    path: Path,
    is_coco: bool,
) -> Listing:
    """Return the listing with the objects of the entries, whose images are ``image_of`` (M,)."""

    def name(row: int) -> str:
        image = f" of {listed.names[image_of[row]]}" if image_of[row] >= 0 else ""
        return f"annotation {entries[row].get('id', f'number {row + 1}')}{image} in {path}"

    labels = np.array([entry["category_id"] for entry in entries], np.int64)
    _check_references(entries, image_of, labels, listed.categories, name)
    corners = _corners(entries, name)
    sizes = listed.sizes[image_of]
    boxes = clipped(corners, sizes) if is_coco else inside(corners, sizes, name)
    own = np.array([_area(entry) for entry in entries], np.float64)
    areas = np.where(np.isnan(own), (boxes[:, 2:] - boxes[:, :2]).prod(1), own)
    crowd = np.array([bool(entry.get("iscrowd", 0)) for entry in entries], np.bool_)
    kept = has_area(boxes)
    objects = by_image(
        image_of[kept], boxes[kept], labels[kept], areas[kept], crowd[kept], len(listed.names)
    )
    left_out = len(kept) - int(kept.sum())
    notes = (f"boxes without area in {path}, left out: {left_out}",) if left_out else ()
    return listed._replace(annotations=objects, notes=notes)


def _check_references(
    entries: Sequence[Mapping[str, Any]],
    image_of: Indices,
    labels: Indices,
    categories: Mapping[int, str],
    name: Callable[[int], str],
) -> None:
    """Raise UserError for an object whose image or category is not listed."""
    for row in np.flatnonzero(image_of < 0)[:1].tolist():
        image = entries[row]["image_id"]
        raise UserError(
            f"{name(row)} is of the image {image!r}, which is not listed; list it, or remove the "
            "annotation"
        )
    for row in np.flatnonzero(~np.isin(labels, [*categories]))[:1].tolist():
        raise UserError(
            f"{name(row)} has the category {labels[row]}, which is not listed; the categories are "
            f"{first_of(sorted(categories), MAX_SHOWN_IDS)}"
        )


def _corners(
    entries: Sequence[Mapping[str, Any]], name: Callable[[int], str]
) -> NDArray[np.float64]:
    """Return boxes (M, 4) from x, y, width and height."""
    for row, entry in enumerate(entries):
        box = entry["bbox"]
        if len(box) != 4 or not all(isinstance(number, int | float) for number in box):
            raise UserError(f"{name(row)} has the box {box}; it needs x, y, width and height")
    boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)


def _area(entry: Mapping[str, Any]) -> float:
    area = entry.get("area")
    return float(area) if isinstance(area, int | float) else np.nan


def _load(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            content = json.load(file)
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"the annotations {path} are not JSON: {reason}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not in COCO's format: it has no lists images, annotations, …")
    return content


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep the collector from looking for cycles among millions of new objects, which have none.

    For COCO's annotations that takes longer than reading them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot read the annotations {path}: {error.strerror}")


def _values(
    content: Mapping[str, Any], kind: str, keys: Mapping[str, str], path: Path
) -> list[tuple[Any, ...]]:
    """Return the values of the keys of each entry of a list. Raises UserError for a wrong one."""
    entries = content.get(kind)
    if not isinstance(entries, list):
        raise UserError(f"{path} is not in COCO's format: it has no list {kind!r}")
    for number, entry in enumerate(entries, 1):
        for key, what in keys.items():
            if not isinstance(entry, dict) or not isinstance(entry.get(key), TYPES[what]):
                own = entry.get("id") if isinstance(entry, dict) else None
                which = f"number {number}" if own is None else f"of the id {own!r}"
                raise UserError(f"{path}: the entry {which} of {kind!r} needs {key!r}, {what}")
    return [tuple(entry[key] for key in keys) for entry in entries]


def _checked_name(name: str, path: Path) -> str:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise UserError(
            f"{path} lists the image {name!r}, which is outside of its folder; name it by its path "
            "within the folder"
        )
    return name
