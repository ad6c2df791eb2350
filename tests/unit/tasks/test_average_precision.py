"""Average precision: what pycocotools has of the same boxes, and what can be counted by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import detection_scenes
import pytest
import torch
from detection_scenes import DRAWS, Scene, draw_scenes

from rkkd_cli.data.detection.objects import Objects
from rkkd_cli.errors import UserError
from rkkd_cli.models.detection.detector import Detections
from rkkd_cli.tasks import average_precision
from rkkd_cli.tasks.average_precision import AveragePrecision, require_coco_eval

RECORD = Path(detection_scenes.__file__).with_name("average_precision.json")
OBJECT = [0.0, 0.0, 100.0, 100.0]
ELSEWHERE = [200.0, 200.0, 300.0, 300.0]
Found = tuple[list[float], int, float]  # box, label, score
Present = tuple[list[float], int, float, bool]  # box, label, area, crowd


def metric_of(scenes: Sequence[Scene], numbers: Sequence[int] | None = None) -> AveragePrecision:
    metric = AveragePrecision()
    for number, scene in zip(numbers or range(len(scenes)), scenes, strict=True):
        there, classes, areas, crowd = _columns(scene.objects, 4)
        boxes, labels, scores = _columns(scene.detections, 3)
        found = Detections(
            torch.tensor(boxes).view(-1, 4), torch.tensor(labels).long(), torch.tensor(scores)
        )
        present = Objects(
            torch.tensor(there).view(-1, 4),
            torch.tensor(classes).long(),
            torch.tensor(areas),
            torch.tensor(crowd).bool(),
        )
        metric.add(found, present, number)
    return metric


def _columns(rows: Sequence[Found] | Sequence[Present], count: int) -> list[list[Any]]:
    return [[row[column] for row in rows] for column in range(count)]


def values(detections: list[Found], objects: list[Present]) -> dict[str, float]:
    return metric_of([Scene(detections, objects)]).values()


@pytest.mark.parametrize("name", DRAWS)
def test_it_is_pycocotools(name: str) -> None:
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))["cases"][name]
    expected = {key: value for key, value in recorded.items() if value is not None}
    assert metric_of(draw_scenes(DRAWS[name])).values() == pytest.approx(expected, abs=1e-6)


def test_a_box_counts_below_its_overlap() -> None:
    found = [([0.0, 0.0, 74.0, 100.0], 0, 0.9)]  # IoU 0.74: right at 0.5, 0.55 … 0.7
    assert values(found, [(OBJECT, 0, 1e4, False)]) == pytest.approx(
        {"ap": 50, "ap50": 100, "ap75": 0, "ap_large": 50, "ar": 50}
    )


@pytest.mark.parametrize(
    ("found", "ap"),
    [
        ([(OBJECT, 0, 0.9)], 100),
        ([(OBJECT, 1, 0.9)], 0),  # another class
        ([(ELSEWHERE, 0, 0.9), (OBJECT, 0, 0.5)], 50),  # precision 1/2 where all is found
        ([(OBJECT, 0, 0.9), (ELSEWHERE, 0, 0.5)], 100),  # wrong after all is found
        ([(OBJECT, 0, 0.9), (OBJECT, 0, 0.5)], 100),
        ([(ELSEWHERE, 1, 1.0), (OBJECT, 0, 0.9)], 100),  # of a class that no object has
    ],
)
def test_one_object(found: list[Found], ap: float) -> None:
    assert values(found, [(OBJECT, 0, 1e4, False)])["ap"] == pytest.approx(ap)


def test_one_of_two_objects() -> None:
    objects = [(OBJECT, 0, 1e4, False), (ELSEWHERE, 0, 1e4, False)]
    found = values([(OBJECT, 0, 0.9)], objects)
    assert found["ap"] == pytest.approx(100 * 51 / 101)  # recalls 0, 0.01 … 0.5
    assert found["ar"] == pytest.approx(50)
    of_two_classes = [(OBJECT, 0, 1e4, False), (ELSEWHERE, 7, 1e4, False)]
    assert values([(OBJECT, 0, 0.9)], of_two_classes)["ap"] == pytest.approx(50)


def test_detections_in_a_crowd_are_not_counted() -> None:
    inside = [([210.0 + n, 210.0, 220.0 + n, 220.0], 0, 0.95) for n in range(5)]
    objects = [(OBJECT, 0, 1e4, False), (ELSEWHERE, 0, 1e4, True)]
    assert values([*inside, (OBJECT, 0, 0.9)], objects)["ap"] == pytest.approx(100)
    alone = values([*inside, (OBJECT, 0, 0.9)], objects[:1])
    assert alone["ap"] == pytest.approx(100 / 6)


def test_the_given_area_says_how_large_an_object_is() -> None:
    sizes = {"ap_small": 32.0**2 - 1, "ap_medium": 32.0**2 + 1, "ap_large": 96.0**2 + 1}
    for name, area in sizes.items():
        found = values([(OBJECT, 0, 0.9)], [(OBJECT, 0, area, False)])
        assert {key for key in found if key in sizes} == {name}


def test_ranks_find_what_one_process_would() -> None:
    scenes = draw_scenes(DRAWS["everything"])
    whole = metric_of(scenes).values()
    numbers = range(len(scenes))
    ranks = [metric_of(scenes[n::3], numbers[n::3]) for n in (2, 0, 1)]
    padded = metric_of(scenes[:2], numbers[:2])  # the last batch's images, once more
    first, *others = (rank.images for rank in (*ranks, padded))
    metric = AveragePrecision()
    for images in (*others, first):
        metric.images |= images
    assert metric.values() == whole
    assert metric_of(scenes[::-1], numbers[::-1]).values() == whole


def test_half_precision_is_taken_as_it_is() -> None:
    boxes, labels = torch.tensor([OBJECT]), torch.tensor([0])
    present = Objects(boxes, labels, torch.tensor([1e4]), torch.tensor([False]))
    metric = AveragePrecision()
    found = Detections(boxes.bfloat16(), labels, torch.tensor([0.9]).bfloat16())
    metric.add(found, present, 0)
    assert metric.values()["ap"] == pytest.approx(100)


def test_what_becomes_of_the_tensors_afterwards_does_not_matter() -> None:
    boxes, labels = torch.tensor([OBJECT], requires_grad=True), torch.tensor([0])
    present = Objects(torch.tensor([OBJECT]), labels, torch.tensor([1e4]), torch.tensor([False]))
    metric = AveragePrecision()
    metric.add(Detections(boxes, labels, torch.tensor([0.9])), present, 0)
    present[0].zero_()
    labels += 1
    assert metric.values()["ap"] == pytest.approx(100)


def test_nothing_is_no_value() -> None:
    assert AveragePrecision().values() == {}


def test_examples_are_the_first_image_of_each_class() -> None:
    def scene(*labels: int, crowd: bool = False) -> Scene:
        return Scene([], [(OBJECT, label, 1e4, crowd) for label in labels])

    scenes = [scene(), scene(1, 0), scene(5, crowd=True), scene(3), scene(3, 2), scene(5)]
    numbers = [0, 1, 2, 9, 7, 5]
    assert metric_of(scenes, numbers).examples() == [1, 7, 5]
    many = metric_of([scene(label) for label in range(9)])
    assert many.examples() == [0, 1, 2, 3, 4, 5]


def test_a_missing_package_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    require_coco_eval()
    monkeypatch.setattr(average_precision, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"needs the package faster-coco-eval; .*\[detection\]"):
        require_coco_eval()
