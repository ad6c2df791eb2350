"""Images with objects and detections, drawn from seeds: what average precision is recorded of.

Coordinates are multiples of a quarter, which every float has exactly.
"""

from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

SIDE = 200.0


class Scene(NamedTuple):
    """An image: its detections (box, label, score) and objects (box, label, area, crowd)."""

    detections: list[tuple[list[float], int, float]]
    objects: list[tuple[list[float], int, float, bool]]


@dataclass(frozen=True)
class Draw:
    """How scenes are drawn; ``crowd``, ``wrong``, ``empty`` and ``blind`` are shares."""

    seed: int
    images: int = 10
    classes: int = 4
    objects: int = 6
    copies: int = 2  # detections of an object, some far off
    noise: int = 0  # detections of nothing
    crowd: float = 0.0
    wrong: float = 0.15  # detections of another class
    empty: float = 0.0  # images without objects
    blind: float = 0.0  # images without detections
    scores: int = 1000  # so many different ones: with few there are ties
    largest: float = 150.0  # side of an object


DRAWS = {
    "ordinary": Draw(1),
    "more classes": Draw(2, images=25, classes=12),
    "crowds": Draw(3, crowd=0.3),
    "all crowds": Draw(4, crowd=1.0, images=3),
    "empty images": Draw(5, empty=0.4, noise=3),
    "images without detections": Draw(6, blind=0.5),
    "no detections": Draw(7, blind=1.0, images=3),
    "no objects": Draw(8, empty=1.0, noise=3, images=3),
    "ties": Draw(9, scores=4, copies=3),
    "one score": Draw(10, scores=1, copies=3),
    "more than 100 detections": Draw(11, images=3, classes=1, objects=30, copies=6, noise=20),
    "small ones only": Draw(12, largest=24.0),
    "everything": Draw(
        13, images=40, classes=20, copies=4, noise=5, crowd=0.1, empty=0.2, blind=0.1, scores=30
    ),
}


def draw_scenes(draw: Draw) -> list[Scene]:
    """Return the scenes, the same ones on every machine."""
    random = Random(draw.seed)
    return [_scene(draw, random) for _ in range(draw.images)]


def _scene(draw: Draw, random: Random) -> Scene:
    objects: list[tuple[list[float], int, float, bool]] = []
    for _ in range(0 if random.random() < draw.empty else draw.objects):
        box = _box(random, draw.largest)
        area = (box[2] - box[0]) * (box[3] - box[1]) * random.choice((0.5, 0.75, 1.0))
        crowd = random.random() < draw.crowd
        objects.append((box, random.randrange(draw.classes), area, crowd))
    if random.random() < draw.blind:
        return Scene([], objects)
    found = []
    for box, label, _, _ in objects:
        for copy in range(draw.copies):
            far = (2 + 12 * copy) * min(1.0, draw.largest / 100)
            shifted = [_quarter(side + random.uniform(-far, far)) for side in box]
            shifted[2] = max(shifted[2], shifted[0] + 1)
            shifted[3] = max(shifted[3], shifted[1] + 1)
            wrong = random.random() < draw.wrong
            found.append((shifted, random.randrange(draw.classes) if wrong else label))
    found += [
        (_box(random, draw.largest), random.randrange(draw.classes)) for _ in range(draw.noise)
    ]
    scored: list[Any] = [
        (box, label, (1 + random.randrange(draw.scores)) / draw.scores) for box, label in found
    ]
    return Scene(scored, objects)


def _box(random: Random, largest: float) -> list[float]:
    width, height = (random.uniform(4, largest) for _ in range(2))
    left, top = random.uniform(0, SIDE - width), random.uniform(0, SIDE - height)
    return [_quarter(side) for side in (left, top, left + width, top + height)]


def _quarter(value: float) -> float:
    return round(4 * value) / 4
