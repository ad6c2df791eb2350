"""Write average_precision.json: what pycocotools says of the scenes of detection_scenes.py.

    pip install pycocotools
    python tests/reference/make_average_precision.py

Values are in percent; null is pycocotools' −1, of what has no object. The tests of
``rkkd_cli.tasks.average_precision`` compare themselves with this file; it changes only when this
script is run.
"""

import contextlib
import io
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from detection_scenes import DRAWS, Scene, draw_scenes
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# Where they stand among the twelve numbers of COCOeval.stats.
STATS = {"ap": 0, "ap50": 1, "ap75": 2, "ap_small": 3, "ap_medium": 4, "ap_large": 5, "ar": 8}


def annotations(scenes: list[Scene], kind: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image, scene in enumerate(scenes, 1):
        for box, label, value, *crowd in getattr(scene, kind):
            left, top, right, bottom = box
            corner_and_size = [left, top, right - left, bottom - top]
            row = {"id": len(rows) + 1, "image_id": image, "category_id": label + 1,
                   "bbox": corner_and_size, "iscrowd": int(any(crowd))}  # fmt: skip
            size = corner_and_size[2] * corner_and_size[3]
            found = {"score": value, "area": size}
            rows.append(row | (found if kind == "detections" else {"area": value}))
    return rows


def data_set(scenes: list[Scene], classes: int, kind: str) -> Any:
    data = COCO()
    data.dataset = {
        "images": [{"id": number} for number in range(1, 1 + len(scenes))],
        "categories": [{"id": number} for number in range(1, 1 + classes)],
        "annotations": annotations(scenes, kind),
    }
    data.createIndex()
    return data


def measure(name: str) -> dict[str, float | None]:
    scenes, classes = draw_scenes(DRAWS[name]), DRAWS[name].classes
    with contextlib.redirect_stdout(io.StringIO()):
        sets = (data_set(scenes, classes, kind) for kind in ("objects", "detections"))
        evaluation = COCOeval(*sets, iouType="bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = {key: float(evaluation.stats[index]) for key, index in STATS.items()}
    return {key: None if value == -1 else 100 * value for key, value in values.items()}


def main() -> None:
    cases = ",\n".join(f'"{name}": {json.dumps(measure(name))}' for name in DRAWS)
    text = f'{{"pycocotools": "{version("pycocotools")}",\n"cases": {{\n{cases}\n}}}}\n'
    Path(__file__).with_name("average_precision.json").write_text(text, encoding="utf-8")
    print(f"{len(DRAWS)} cases")


if __name__ == "__main__":
    main()
