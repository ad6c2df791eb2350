"""What a sheet of detections shows: test images, and what each detector finds in them.

Shapes: D detections and N objects of an image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.errors import printable
from rkkd_cli.records.detections import (
    MIN_SCORE,
    DetectedScene,
    DetectionSheet,
    FoundBoxes,
    PresentBoxes,
    detections_path,
)
from rkkd_cli.records.run_directory import RunDirectory

MAX_ARMS = 4  # beside the objects and the teacher; of more, boxes are too small to be seen
IOU = 0.5
TEACHER = "the teacher"  # no arm has such a name: it has a space


class LabelledBox(NamedTuple):
    """A box x0, y0, x1, y1 in pixels, with what is written beside it."""

    corners: tuple[float, float, float, float]
    text: str


class DetectorView(NamedTuple):
    """What a detector finds in an image, and the objects that it misses."""

    right: Sequence[LabelledBox]
    wrong: Sequence[LabelledBox]
    missed: Sequence[LabelledBox]


class ImageRow(NamedTuple):
    """A test image (H, W, 3), its objects, its crowds, and each detector's view of it."""

    name: str
    pixels: NDArray[np.uint8]
    objects: Sequence[LabelledBox]
    crowds: Sequence[LabelledBox]
    views: dict[str, DetectorView]


class DetectionPicture(NamedTuple):
    """What a sheet shows, and its title."""

    title: str
    rows: Sequence[ImageRow]

    @property
    def detectors(self) -> list[str]:
        """The labels of the detectors, teachers first."""
        labels = dict.fromkeys(label for row in self.rows for label in row.views)
        return sorted(labels, key=lambda label: not label.startswith(TEACHER))

    @classmethod
    def of(cls, sheets: Sequence[tuple[str, DetectionSheet]]) -> "DetectionPicture":
        """Return labelled sheets beside each other, by their images. Of many arms the first."""
        rows: dict[tuple[int, bytes], ImageRow] = {}
        teachers = _teachers([sheet for _, sheet in sheets[:MAX_ARMS]])
        for label, sheet in sheets[:MAX_ARMS]:
            for scene in sheet.scenes:
                names = [printable(name) for name in sheet.class_names]
                row = rows.setdefault((scene.index, scene.image), _row_of(scene, names))
                teacher = teachers[_fingerprint(sheet)]
                row.views.setdefault(teacher, _view_of(scene.teacher, scene.objects, names))
                row.views[printable(label)] = _view_of(scene.student, scene.objects, names)
        return cls(_title([sheet for _, sheet in sheets]), [*rows.values()])


def read_detections(run: RunDirectory, arms: Sequence[str]) -> list[DetectionSheet]:
    """Return the sheets that a run has of its arms. Raises UserError for a damaged one."""
    paths = [detections_path(run.path, arm) for arm in arms]
    return [DetectionSheet.read(path) for path in paths if path.is_file()]


class Matches(NamedTuple):
    """Which detections (D,) are right, and which objects (N,) are found."""

    right: NDArray[np.bool_]
    found: NDArray[np.bool_]


def match_boxes(detections: FoundBoxes, objects: PresentBoxes) -> Matches:
    """Return which detections are of an object: the best first, each object once.

    Right is a detection whose IoU with an object of its class is at least 0.5, and which finds it
    first; or which lies in a crowd of its class, for the most part.
    """
    overlaps, inside = _overlaps(detections.boxes, objects.boxes)
    same = detections.labels[:, None] == objects.labels
    right = (same & objects.crowd & (inside >= IOU)).any(axis=1)
    found = np.zeros(len(objects.labels), np.bool_)
    for row in range(len(right)):
        fits = np.where(same[row] & ~objects.crowd & ~found, overlaps[row], 0.0)
        if fits.size and fits.max() >= IOU:
            found[fits.argmax()] = right[row] = True
    return Matches(right, found)


def _overlaps(
    boxes: NDArray[np.float32], others: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the IoU of all pairs, and the share of each box inside each other one, (D, N)."""
    ours, theirs = boxes.astype(float)[:, None], others.astype(float)[None]
    low, high = (
        np.maximum(ours[..., :2], theirs[..., :2]),
        np.minimum(ours[..., 2:], theirs[..., 2:]),
    )
    common = np.clip(high - low, 0, None).prod(axis=-1)
    sizes = [np.clip(box[..., 2:] - box[..., :2], 0, None).prod(axis=-1) for box in (ours, theirs)]
    union = sizes[0] + sizes[1] - common
    return (
        np.divide(common, union, out=np.zeros_like(common), where=union > 0),
        np.divide(common, sizes[0], out=np.zeros_like(common), where=sizes[0] > 0),
    )


def _row_of(scene: DetectedScene, names: Sequence[str]) -> ImageRow:
    objects = _labelled(scene.objects.boxes, [names[label] for label in scene.objects.labels])
    crowd = scene.objects.crowd
    return ImageRow(
        f"image {scene.index}", scene.pixels, _chosen(objects, ~crowd),
        [LabelledBox(box, f"{text}, crowd") for box, text in _chosen(objects, crowd)], {},
    )  # fmt: skip


def _view_of(found: FoundBoxes, objects: PresentBoxes, names: Sequence[str]) -> DetectorView:
    right, is_found = match_boxes(found, objects)
    texts = [
        f"{names[label]} {score:.2f}"
        for label, score in zip(found.labels, found.scores, strict=True)
    ]
    boxes = _labelled(found.boxes, texts)
    missed = _labelled(objects.boxes, [names[label] for label in objects.labels])
    return DetectorView(
        _chosen(boxes, right), _chosen(boxes, ~right), _chosen(missed, ~is_found & ~objects.crowd)
    )


def _labelled(boxes: NDArray[np.float32], texts: Sequence[str]) -> list[LabelledBox]:
    return [LabelledBox(tuple(box), text) for box, text in zip(boxes.tolist(), texts, strict=True)]


def _chosen(boxes: Sequence[LabelledBox], chosen: NDArray[np.bool_]) -> list[LabelledBox]:
    return [box for box, wanted in zip(boxes, chosen, strict=True) if wanted]


def _teachers(sheets: Sequence[DetectionSheet]) -> dict[bytes, str]:
    """Return the label of each teacher, by what it finds: arms may have several."""
    arms: dict[bytes, str] = {}
    for sheet in sheets:
        arms.setdefault(_fingerprint(sheet), sheet.arm)
    if len(arms) == 1:
        return dict.fromkeys(arms, TEACHER)
    return {found: f"{TEACHER} of {arm}" for found, arm in arms.items()}


def _fingerprint(sheet: DetectionSheet) -> bytes:
    return b"".join(values.tobytes() for scene in sheet.scenes for values in scene.teacher)


def _title(sheets: Sequence[DetectionSheet]) -> str:
    epochs, seeds = {sheet.epoch for sheet in sheets}, {sheet.seed for sheet in sheets}
    after = f"after epoch {epochs.pop()}" if len(epochs) == 1 else "after each arm's last epoch"
    seed = f", seed {seeds.pop()}" if len(seeds) == 1 else ""
    more = f" (the first {MAX_ARMS} of {len(sheets)} arms)" if len(sheets) > MAX_ARMS else ""
    return f"Detections in test images {after}{seed}, with scores from {MIN_SCORE}{more}"
