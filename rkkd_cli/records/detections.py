"""``detections/ARM.safetensors``: what is found in some test images, and the images.

Shapes: N boxes of an image.
"""

import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rkkd_cli.errors import UserError
from rkkd_cli.files import atomic_file

FOLDER = "detections"
FACTS = "rkkd.detections"  # one entry of the metadata: the library writes several in any order
MAX_SIDE = 480  # pixels of a stored image
LOSSLESS_SIDE = 160  # up to here PNG, then JPEG: artefacts of JPEG show in enlarged images
JPEG_QUALITY = 90
MIN_SCORE = 0.5  # of a detection that is kept
MAX_DETECTIONS = 20  # that are kept of an image, the best ones


class PresentBoxes(NamedTuple):
    """The objects of an image.

    ``boxes`` (N, 4) float32: x0, y0, x1, y1 in pixels; ``labels`` (N,) int64; ``crowd`` (N,) bool.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]


class FoundBoxes(NamedTuple):
    """What a detector finds in an image, the best first.

    ``boxes`` (N, 4) float32: x0, y0, x1, y1 in pixels; ``labels`` (N,) int64; ``scores`` (N,)
    float32.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DetectedScene:
    """A test image by its number, its objects, and what teacher and student find.

    ``image`` is a PNG or JPEG; boxes are in its pixels.
    """

    index: int
    image: bytes
    objects: PresentBoxes
    teacher: FoundBoxes
    student: FoundBoxes

    @classmethod
    def of(
        cls,
        index: int,
        pixels: NDArray[np.uint8],
        objects: PresentBoxes,
        teacher: FoundBoxes,
        student: FoundBoxes,
    ) -> Self:
        """Return the scene with an image (H, W, 3) that is not too large, and the best boxes."""
        height, width = pixels.shape[:2]
        scale = min(1.0, MAX_SIDE / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = Image.fromarray(pixels)
        if scale < 1:
            image = image.resize(size, Image.Resampling.BILINEAR)
        stretch = (size[0] / width, size[1] / height)
        return cls(
            index,
            _encode(image),
            objects._replace(boxes=_stretched(objects.boxes, stretch)),
            *(
                _best(found._replace(boxes=_stretched(found.boxes, stretch)))
                for found in (teacher, student)
            ),
        )

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The image, (H, W, 3). Raises ValueError if it cannot be decoded."""
        try:
            with warnings.catch_warnings(action="error"):  # such as of sizes that fill the memory
                image = Image.open(io.BytesIO(self.image), formats=("PNG", "JPEG"))
                if max(image.size) > MAX_SIDE:
                    raise ValueError(f"an image has {image.width} × {image.height} pixels")
                return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, Warning, Image.DecompressionBombError) as error:
            raise ValueError(" ".join(str(error).split())) from None


@dataclass(frozen=True, eq=False)
class DetectionSheet:
    """What an arm's student finds after its last ``epoch``, beside its teacher."""

    arm: str
    seed: int
    epoch: int
    class_names: tuple[str, ...]
    scenes: Sequence[DetectedScene]

    def write(self, path: Path) -> None:
        """Write the file atomically. Raises OSError."""
        facts = {"arm": self.arm, "seed": self.seed, "epoch": self.epoch}
        facts |= {"classes": self.class_names, "images": [scene.index for scene in self.scenes]}
        tensors: dict[str, NDArray[Any]] = {}
        for number, scene in enumerate(self.scenes):
            tensors[f"{number}.image"] = np.frombuffer(scene.image, np.uint8)
            for name in ("objects", "teacher", "student"):
                boxes: PresentBoxes | FoundBoxes = getattr(scene, name)
                for field, values in boxes._asdict().items():
                    tensors[f"{number}.{name}.{field}"] = np.ascontiguousarray(values)
        content = save(tensors, {FACTS: json.dumps(facts)})
        path.parent.mkdir(exist_ok=True)
        with atomic_file(path) as file:
            file.write(content)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file. Raises UserError for one that cannot be read, or holds something else."""
        try:
            with safe_open(path, framework="numpy") as file:
                facts: dict[str, Any] = json.loads((file.metadata() or {})[FACTS])
                names = tuple(map(str, facts["classes"]))
                scenes = [
                    _read_scene(file, number, int(index), len(names))
                    for number, index in enumerate(facts["images"])
                ]
            return cls(str(facts["arm"]), int(facts["seed"]), int(facts["epoch"]), names, scenes)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is damaged ({error}); remove it to go without it") from None


def detections_path(run: Path, arm: str) -> Path:
    """Return the file of an arm in a run's folder."""
    return run / FOLDER / f"{arm}.safetensors"


def _encode(image: Image.Image) -> bytes:
    file = io.BytesIO()
    if max(image.size) <= LOSSLESS_SIDE:
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _stretched(boxes: NDArray[np.float32], stretch: tuple[float, float]) -> NDArray[np.float32]:
    """Return boxes in pixels of an image of another width and height."""
    stretched: NDArray[np.float32] = boxes * np.array(stretch * 2, np.float32)
    return stretched


def _best(found: FoundBoxes) -> FoundBoxes:
    """Return the best detections whose score is high enough, the best first."""
    order = np.argsort(-found.scores, kind="stable")
    kept = order[found.scores[order] >= MIN_SCORE][:MAX_DETECTIONS]
    return FoundBoxes(found.boxes[kept], found.labels[kept], found.scores[kept])


def _read_scene(file: Any, number: int, index: int, classes: int) -> DetectedScene:
    """Return a scene of a file. Raises ValueError for one that does not fit together."""

    def read(name: str, third: str, kind: str) -> tuple[NDArray[Any], ...]:
        fields = ("boxes", "labels", third)
        boxes, labels, values = (file.get_tensor(f"{number}.{name}.{field}") for field in fields)
        kinds = [array.dtype for array in (boxes, labels, values)]
        count = len(labels)
        shapes = (boxes.shape, labels.shape, values.shape)
        if kinds != ["float32", "int64", kind] or shapes != ((count, 4), (count,), (count,)):
            raise ValueError(f"{name} of image {index} have other shapes")
        if not (np.isfinite(boxes).all() and ((labels >= 0) & (labels < classes)).all()):
            raise ValueError(f"{name} of image {index} are no boxes of its classes")
        return boxes, labels, values

    scene = DetectedScene(
        index,
        file.get_tensor(f"{number}.image").tobytes(),
        PresentBoxes(*read("objects", "crowd", "bool")),
        FoundBoxes(*read("teacher", "scores", "float32")),
        FoundBoxes(*read("student", "scores", "float32")),
    )
    _ = scene.pixels  # it can be decoded
    return scene
