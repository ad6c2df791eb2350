"""Images with boxes made up for tests, in COCO's format and in Pascal VOC's."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Box = Sequence[float]


def write_image(path: Path, height: int, width: int, seed: int = 0) -> None:
    """Write a random image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def coco_content(images: int = 4, size: tuple[int, int] = (40, 60)) -> dict[str, Any]:
    """Return annotations of ``images`` images with one box of each of two classes.

    The categories have the ids 7 (dog) and 3 (cat). Image i has the id 10 + i.
    """
    height, width = size
    listed = [
        {"id": 10 + i, "file_name": f"{i}.png", "height": height, "width": width}
        for i in range(images)
    ]
    boxes = [
        {
            "id": 100 + 2 * i + k, "image_id": 10 + i, "category_id": category, "iscrowd": 0,
            "bbox": [1 + i, 2, 10 + k, 20], "area": 150.0,
        }
        for i in range(images)
        for k, category in enumerate((7, 3))
    ]  # fmt: skip
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    return {"images": listed, "annotations": boxes, "categories": categories}


def write_coco(folder: Path, annotations: Path, content: dict[str, Any]) -> None:
    """Write an annotation file, and its images into ``folder``."""
    annotations.parent.mkdir(parents=True, exist_ok=True)
    annotations.write_text(json.dumps(content), encoding="utf-8")
    for number, image in enumerate(content["images"]):
        write_image(folder / image["file_name"], image["height"], image["width"], number)


def write_roboflow(root: Path, **splits: dict[str, Any]) -> Path:
    """Write splits such as train=…, valid=…, each with its annotations beside its images."""
    for name, content in splits.items():
        write_coco(root / name, root / name / "_annotations.coco.json", content)
    return root


def voc_object(name: str, box: Box, difficult: int = 0) -> str:
    """Return an object of an annotation file: a part of it has a box of its own."""
    keys = ("xmin", "ymin", "xmax", "ymax")
    corners = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, box, strict=True))
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox>{corners}</bndbox>{part}</object>"
    )


def write_voc(root: Path, year: str, image_set: str, objects: dict[str, list[str]]) -> Path:
    """Write images of 30×50 pixels (height × width), named by their objects' keys."""
    folder = root / "VOCdevkit" / f"VOC{year}"
    for name, found in objects.items():
        write_image(folder / "JPEGImages" / f"{name}.jpg", 30, 50)
        path = folder / "Annotations" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = "<size><width>50</width><height>30</height><depth>3</depth></size>"
        path.write_text(f"<annotation>{size}{''.join(found)}</annotation>", encoding="utf-8")
    listed = folder / "ImageSets" / "Main" / f"{image_set}.txt"
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text("".join(f"{name}\n" for name in objects), encoding="utf-8")
    return root
