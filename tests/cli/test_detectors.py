"""Trained detectors and their weights, as a user types them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running import Program, refused, succeeded
from written import manifest_of

from rkkd_cli.models import build_model
from rkkd_cli.models.detection import build_detector

pytest.importorskip("faster_coco_eval")

NARROW = {"out_channels": 8, "representation_size": 16}
OPTIONS = "{ anchor_sizes = [16, 32, 64], out_channels = 8, representation_size = 16 }"
PRESET = f"""
task = "detection"
seeds = [0]
threads = 1
[dataset]
name = "digits_scenes"
limit_train = 8
limit_test = 4
[teacher]
model = "fasterrcnn:resnet8"
options = {OPTIONS}
[teacher.training]
epochs = 1
batch_size = 4
lr = 0.01
[student]
model = "fasterrcnn:resnet8"
options = {OPTIONS}
[training]
epochs = 1
batch_size = 4
lr = 0.01
[method]
name = "kd"
[arms.kd]
"""
RUN = ("run", "tiny.toml", "-q")
DRY = ("run", "tiny.toml", "--dry-run")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> Path:
    """A folder with a preset and a run ``own`` of it, and weights of several kinds."""
    folder = tmp_path_factory.mktemp("detectors")
    (folder / "tiny.toml").write_text(PRESET)
    succeeded(warm_rkkd(*RUN, "--name", "own", cwd=folder))
    torch.manual_seed(0)
    detector = build_detector("fasterrcnn:resnet8", 90, {**NARROW, "anchor_sizes": (16, 32, 64)})
    torch.save(detector.state_dict(), folder / "coco.pth")
    torch.save(build_model("resnet8", 100).state_dict(), folder / "classifier.pth")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    (folder / "images" / "more").mkdir(parents=True)
    Image.fromarray(pixels).save(folder / "images" / "a.jpg")
    Image.fromarray(pixels[:, :40]).save(folder / "images" / "more" / "b.png")
    return folder


def answer_of(program: Program, folder: Path, *words: str) -> Any:
    return json.loads(succeeded(program(*words, "--json", cwd=folder)).stdout)


def test_a_student_is_measured_as_metrics_csv_says(folder: Path, warm_rkkd: Program) -> None:
    (measured,) = answer_of(warm_rkkd, folder, "evaluate", "own")["students"]
    with (folder / "results/own/metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert measured["images"] == 4
    for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ar"):
        assert measured[name] == pytest.approx(float(row[f"test_{name}"]), abs=1e-4)
    assert "ap_large" not in measured
    assert row["test_ap_large"] == ""
    shown = succeeded(warm_rkkd("evaluate", "own", cwd=folder)).stdout
    assert "AP (%)" in shown
    assert "accuracy" not in shown


def test_what_is_found_is_listed_and_drawn(folder: Path, warm_rkkd: Program) -> None:
    words = ("predict", "own", "kd", "images", "--threshold", "0", "--draw", "drawn")
    one, other = answer_of(warm_rkkd, folder, *words)["images"]
    assert [Path(image["image"]).name for image in (one, other)] == ["a.jpg", "b.png"]
    for image, width in ((one, 60), (other, 40)):
        scores = [found["score"] for found in image["detections"]]
        assert scores == sorted(scores, reverse=True)
        for found in image["detections"]:
            assert found["class"] in map(str, range(10))
            x0, y0, x1, y1 = found["box"]
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= 40
    with Image.open(folder / "drawn" / "a.png") as drawn:
        assert drawn.size == (60 * 8, 40 * 8)
    assert (folder / "drawn" / "more" / "b.png").is_file()
    lines = succeeded(warm_rkkd(*words[:4], "--threshold", "1", cwd=folder)).stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["class", "nothing", "nothing"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("predict", "own", "kd", "images", "--draw", "images"), ("would replace",)),
        (("predict", "own", "kd", "images", "--threshold", "2"), ("from 0 to 1",)),
        (("predict", "own", "kd", "tiny.toml"), ("tiny.toml",)),
        (("evaluate", "own", "--data-root", "none"), ("no such folder",)),
        (("evaluate", "own", "--split", "val"), ("no validation images",)),
        (("export", "own", "kd", "--to", "kd.onnx"), ("is a detector", ".safetensors")),
        (("export", "own", "kd", "--to", "kd.pt2"), ("is a detector", ".safetensors")),
        (("teacher", "import", "coco.pth"), ("is a detector", "--teacher-weights")),
        (("teacher", "import", "classifier.pth", "tiny.toml"), ("--teacher-weights",)),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(
    words: tuple[str, ...], parts: tuple[str, ...], folder: Path, warm_rkkd: Program
) -> None:
    refused(warm_rkkd(*words, cwd=folder), *parts)


def test_a_teacher_is_exported_with_its_average_precision(folder: Path, warm_rkkd: Program) -> None:
    (teacher,) = manifest_of(folder / "results/own")["teachers"]
    words = ("teacher", "export", teacher["key"])
    answer = succeeded(warm_rkkd(*words, "--to", "t.safetensors", cwd=folder))
    assert "fasterrcnn:resnet8, 10 classes, AP " in answer.stdout
    again = succeeded(warm_rkkd(*DRY, "--teacher-weights", "t.safetensors", cwd=folder)).stdout
    assert "from t.safetensors" in again
    assert "or cached" not in again


@pytest.mark.slow
def test_a_student_begins_with_what_a_file_has(folder: Path, warm_rkkd: Program) -> None:
    own = "results/own/final/kd-seed0.safetensors"
    notes = {
        own: "",
        "coco.pth": "of 90 classes is replaced by one of 10",
        "classifier.pth": "all but its backbone begins with random weights",
    }
    for file, note in notes.items():
        shown = succeeded(warm_rkkd(*DRY, f"student.weights={file}", cwd=folder)).stdout
        assert f"from {file}" in shown
        assert note in shown
    words = ("--name", "began", "student.weights=classifier.pth")
    succeeded(warm_rkkd(*RUN, *words, cwd=folder))
    (student,) = manifest_of(folder / "results/began")["students"].values()
    assert student["weights"]["name"] == "classifier.pth"
    assert "all but its backbone" in student["weights"]["note"]


def test_a_trained_student_is_the_next_teacher(folder: Path, warm_rkkd: Program) -> None:
    own = "results/own/final/kd-seed0.safetensors"
    words = ("--name", "next", "--teacher-weights", own)
    succeeded(warm_rkkd(*RUN, *words, cwd=folder))
    (teacher,) = manifest_of(folder / "results/next")["teachers"]
    (measured,) = answer_of(warm_rkkd, folder, "evaluate", "own")["students"]
    assert teacher["source"] == "checkpoint"
    assert teacher["test_ap"] == pytest.approx(measured["ap"])


TORCHVISIONS = ("teacher.model=torchvision:fasterrcnn_resnet50_fpn", "teacher.options=none")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("student.weights=none.pth",), ("no such checkpoint file: none.pth",)),
        (("student.weights=pretrained",), ("no published weights of resnet8",)),
        (("student.model=fasterrcnn:resnet20", "student.weights=coco.pth"), ("missing",)),
        (
            ("student.model=retinanet:resnet8", "teacher.model=retinanet:resnet8",
             "student.options=none", "teacher.options=none",
             "student.weights=results/own/final/kd-seed0.safetensors"),
            ("holds a fasterrcnn:resnet8", "add --student fasterrcnn:resnet8"),
        ),
        (
            ("student.options.out_channels=16",
             "student.weights=results/own/final/kd-seed0.safetensors"),
            ("other options", "student.options.out_channels=8"),
        ),
        ((*TORCHVISIONS, "teacher.weights=COCO_V7"), ("COCO_V1", "IMAGENET1K_V2")),
        (("dataset.name=cifar10",), ("a class for each image", "digits_scenes")),
        (("task=classification",), ("is a detector",)),
        (("student.model=resnet8",), ("needs a detector", "fasterrcnn:resnet8")),
        (("student.model=fastrcnn:resnet8",), ("did you mean fasterrcnn:resnet8?",)),
        (("student.model=yolov8n",), ("fasterrcnn:BACKBONE",)),
        (("teacher.model=retinanet:resnet8",), ("detectors of one kind",)),
        (
            ("student.model=retinanet:resnet8", "teacher.model=retinanet:resnet8",
             "teacher.options={out_channels=32}",
             "student.options={out_channels=32,aspect_ratios=[1.0,2.0,3.0]}"),
            ("anchor by anchor", "aspect_ratios"),
        ),
        (
            ("student.model=retinanet:resnet8", "teacher.model=retinanet:resnet8"),
            ("options=none leaves out those of a preset",),
        ),
        (("--image-size", "64"), ("dataset.image_size", "dataset.min_size")),
        (("dataset.auto_augment=rand",), ("dataset.auto_augment", "detectors")),
        (("teacher.image_size=64",), ("teacher.image_size", "dataset.min_size")),
        (("student.embedding=8",), ("student.embedding",)),
        (("--method", "rkd"), ("'rkd'", "for detection there are")),
        (("--stack",), ("stacked",)),
        (("--cuda-graph",), ("cuda_graph",)),
        (("--cache-teacher",), ("cache_teacher",)),
        (("--patience", "1"), ("dataset.val_share",)),
        (("dataset.limit_train=0",), ("limit_train",)),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_said_at_the_start(
    words: tuple[str, ...], parts: tuple[str, ...], folder: Path, warm_rkkd: Program
) -> None:
    refused(warm_rkkd(*DRY, *words, cwd=folder), *parts)


def test_images_with_boxes_need_the_task(tmp_path: Path, warm_rkkd: Program) -> None:
    words = ("run", "rank_grad", "dataset.name=digits_scenes", "--dry-run")
    refused(warm_rkkd(*words, cwd=tmp_path), "needs a class for each", "task = 'detection'")


@pytest.mark.parametrize(("method", "term"), [("fitnet", "hint"), ("reviewkd", "review")])
def test_methods_of_maps_are_checked_before_they_are_trained(
    method: str, term: str, folder: Path, warm_rkkd: Program
) -> None:
    assert term in succeeded(warm_rkkd(*DRY, "--method", method, cwd=folder)).stdout


def test_settings_of_detectors_are_refused_elsewhere(folder: Path, warm_rkkd: Program) -> None:
    words = "run", "rank_grad", "detection.proposals=teacher", "--dry-run"
    refused(warm_rkkd(*words, cwd=folder), "detection.proposals is of the task detection")
