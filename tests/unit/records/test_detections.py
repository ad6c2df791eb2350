"""The file of detections: what it holds, how large it gets, and what is said of a damaged one."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load, save

from rkkd_cli.errors import UserError
from rkkd_cli.records.detections import (
    FACTS,
    MAX_DETECTIONS,
    MAX_SIDE,
    DetectedScene,
    DetectionSheet,
    FoundBoxes,
    PresentBoxes,
    detections_path,
)

NAMES = ("cat", "dog")


def found(*scores: float) -> FoundBoxes:
    boxes = np.array([[0, 0, 8 + n, 6] for n, _ in enumerate(scores)], np.float32).reshape(-1, 4)
    labels = np.arange(len(scores), dtype=np.int64) % 2
    return FoundBoxes(boxes, labels, np.array(scores, np.float32))


def present(boxes: list[list[float]]) -> PresentBoxes:
    count = len(boxes)
    flat = np.array(boxes, np.float32).reshape(-1, 4)
    return PresentBoxes(flat, np.zeros(count, np.int64), np.zeros(count, np.bool_))


def made_scene(index: int = 0, height: int = 12, width: int = 16) -> DetectedScene:
    pixels = (np.arange(height * width * 3).reshape(height, width, 3) % 251).astype(np.uint8)
    objects = present([[0, 0, width / 2, height]])
    return DetectedScene.of(index, pixels, objects, found(0.9), found(0.5, 0.8))


def made_sheet() -> DetectionSheet:
    empty = DetectedScene.of(7, np.zeros((5, 3, 3), np.uint8), present([]), found(), found())
    return DetectionSheet("kd", 0, 9, NAMES, [made_scene(3), empty])


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    sheet, path = made_sheet(), detections_path(tmp_path, "kd")
    sheet.write(path)
    first = path.read_bytes()
    sheet.write(path)
    read = DetectionSheet.read(path)
    assert path.read_bytes() == first
    assert (read.arm, read.seed, read.epoch, read.class_names) == ("kd", 0, 9, NAMES)
    assert [scene.index for scene in read.scenes] == [3, 7]
    for ours, theirs in zip(read.scenes, sheet.scenes, strict=True):
        assert np.array_equal(ours.pixels, theirs.pixels)
        for name in ("objects", "teacher", "student"):
            for one, other in zip(getattr(ours, name), getattr(theirs, name), strict=True):
                assert one.dtype == other.dtype
                assert np.array_equal(one, other)


def test_small_images_are_kept_exactly() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    scene = DetectedScene.of(0, pixels, present([]), found(), found())
    assert np.array_equal(scene.pixels, pixels)


def test_large_images_are_shrunk_with_their_boxes() -> None:
    scene = made_scene(height=1200, width=1600)
    assert scene.pixels.shape == (MAX_SIDE * 3 // 4, MAX_SIDE, 3)
    assert scene.objects.boxes[0].tolist() == pytest.approx([0, 0, MAX_SIDE / 2, MAX_SIDE * 3 / 4])
    assert len(scene.image) < 300_000


def test_the_best_detections_are_kept_the_best_first() -> None:
    scores = [0.1, 0.6, 0.29, 0.9, 0.6]
    pixels = np.zeros((8, 8, 3), np.uint8)
    scene = DetectedScene.of(0, pixels, present([]), found(*scores), found(*[0.5] * 99))
    assert scene.teacher.scores.tolist() == pytest.approx([0.9, 0.6, 0.6])
    assert scene.teacher.boxes[:, 2].tolist() == [11, 9, 12]  # equal scores in their order
    assert len(scene.student.scores) == MAX_DETECTIONS


def huge_png() -> bytes:
    """Return a PNG of a few bytes that says it has four billion pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", 65_000, 65_000, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 99))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def image_bytes(kind: str, side: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("0.image", np.frombuffer(b"no image", np.uint8)),
        ("0.image", np.frombuffer(image_bytes("PNG")[:-30], np.uint8)),
        ("0.image", np.frombuffer(image_bytes("TIFF"), np.uint8)),
        ("0.image", np.frombuffer(image_bytes("PNG", MAX_SIDE + 1), np.uint8)),
        ("0.image", np.frombuffer(huge_png(), np.uint8)),
        ("0.teacher.boxes", np.zeros((1, 3), np.float32)),
        ("0.teacher.boxes", np.full((1, 4), np.nan, np.float32)),
        ("0.teacher.labels", np.zeros(1, np.int32)),
        ("0.teacher.labels", np.array([2], np.int64)),
        ("0.teacher.labels", np.array([-1], np.int64)),
        ("0.teacher.labels", np.array(0, np.int64)),
        ("0.student.scores", np.zeros(1, np.float32)),
        ("0.objects.crowd", np.zeros(1, np.float32)),
    ],
)
def test_a_damaged_part_is_said(tmp_path: Path, name: str, values: NDArray[Any]) -> None:
    path = detections_path(tmp_path, "kd")
    sheet = made_sheet()
    sheet.write(path)
    facts = {"arm": "kd", "seed": 0, "epoch": 9, "classes": NAMES, "images": [3, 7]}
    path.write_bytes(save(load(path.read_bytes()) | {name: values}, {FACTS: json.dumps(facts)}))
    refused(path)


def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = detections_path(tmp_path, "kd")
    made_sheet().write(path)
    whole = path.read_bytes()
    nameless, imageless = whole.replace(b"epoch", b"hcope"), whole.replace(b"1.image", b"2.image")
    for content in (b"", whole[:-1], nameless, imageless, b"\xff" * 99):
        path.write_bytes(content)
        refused(path)


def refused(path: Path) -> None:
    with pytest.raises(UserError, match=r"kd\.safetensors is damaged .*; remove it") as caught:
        DetectionSheet.read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 300
