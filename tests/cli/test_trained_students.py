"""What is done with the students of a run: export, predict, evaluate, and eight plain lines."""

import ast
import csv
import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running import Program, refused, succeeded
from safetensors import safe_open

from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.students.export import example_images
from rkkd_cli.sweep.students.student import read_student

PAGE = Path(__file__).parents[2] / "docs" / "trained-students.md"
MYNET = """
from torch import nn

class MyNet(nn.Module):
    def __init__(self, num_classes, width=4, in_channels=3):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))
"""
CLASSES = ("cat", "dog", "owl")
SHAPES = ((40, 30), (33, 64), (32, 32), (20, 50))  # of images, width × height


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> Path:
    """A folder with photographs of mixed shapes, a network, and a run ``own`` of it on them."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mynet.py").write_text(MYNET)
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 4)):
        for label, name in enumerate(CLASSES):
            (folder / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                width, height = SHAPES[number % len(SHAPES)]
                pixels = generator.integers(0, 150, (height, width, 3), dtype=np.uint8)
                pixels[..., label] += 100
                path = folder / "images" / split / name / f"{number}.png"
                Image.fromarray(pixels).save(path)
    words = ("training.epochs=3", "teacher.training.epochs=1", "training.batch_size=6",
             "training.ema_decay=0.8")  # fmt: skip
    settings = ("dataset.image_size=32", "dataset.resize=squash", "seeds=[0,1]")
    models = ("--student", "mynet:MyNet", "--teacher", "cnn2", "--name", "own")
    data = ("--dataset", "folder", "--data-root", "images")
    succeeded(warm_rkkd("run", "-q", *models, *data, *words, *settings, cwd=folder))
    return folder


def answer_of(program: Program, folder: Path, *words: str) -> Any:
    return json.loads(succeeded(program(*words, "--json", cwd=folder)).stdout)


def test_all_students_measure_on_the_test_images_as_metrics_csv_says(
    folder: Path, warm_rkkd: Program
) -> None:
    measured = answer_of(warm_rkkd, folder, "evaluate", "own")["students"]
    with (folder / "results/own/metrics.csv").open() as file:
        last = {(row["arm"], row["seed"]): row for row in csv.DictReader(file)}
    assert len(measured) == len(last) == 4
    for one in measured:
        row = last[one["arm"], str(one["seed"])]
        assert one["images"] == 12
        assert one["acc"] == float(row["test_acc"])
        assert one["ce"] == pytest.approx(float(row["test_ce"]), rel=1e-5)


def test_moving_averages_are_weights_of_their_own(folder: Path, warm_rkkd: Program) -> None:
    measured = answer_of(warm_rkkd, folder, "evaluate", "own", "--ema")["students"]
    with (folder / "results/own/metrics.csv").open() as file:
        last = {(row["arm"], row["seed"]): row for row in csv.DictReader(file)}
    for one in measured:
        assert one["acc"] == float(last[one["arm"], str(one["seed"])]["test_acc_ema"])
    succeeded(warm_rkkd("export", "own", "kd", "--ema", "--to", "ema.safetensors", cwd=folder))
    with safe_open(folder / "ema.safetensors", "pt") as file:
        metadata = file.metadata()
        averaged = file.get_tensor("head.weight")
    assert (metadata["rkkd.ema_decay"], metadata["rkkd.epoch"]) == ("0.8", "3")
    assert metadata["rkkd.test_acc"] == last["kd", "0"]["test_acc_ema"]
    with safe_open(folder / "results/own/final/kd-seed0.safetensors", "pt") as file:
        assert "rkkd.ema_decay" not in file.metadata()
        assert not torch.equal(file.get_tensor("head.weight"), averaged)
    shown = succeeded(warm_rkkd("show", "own", cwd=folder)).stdout
    assert "moving average of the weights with decay 0.8" in shown
    assert "Test accuracy with moving averages of the weights: kd " in shown
    both = warm_rkkd("evaluate", "own", "kd", "--best", "--ema", cwd=folder)
    refused(both, "--best and --ema name different weights")


def test_another_folder_is_measured_by_the_names_of_its_classes(
    folder: Path, warm_rkkd: Program
) -> None:
    words = ("evaluate", "own", "kd", "--seed", "1", "--data-root")
    (again,) = answer_of(warm_rkkd, folder, *words, "images")["students"]
    (here,) = answer_of(warm_rkkd, folder, "evaluate", "own", "kd", "--seed", "1")["students"]
    assert again == pytest.approx(here)
    owls = folder / "owls" / "owl"
    owls.mkdir(parents=True)
    for path in (folder / "images/test/owl").iterdir():
        owls.joinpath(path.name).write_bytes(path.read_bytes())
    (folder / "owls" / "empty").mkdir()
    (flat,) = answer_of(warm_rkkd, folder, *words, "owls")["students"]
    assert flat["images"] == 4
    owls.rename(folder / "owls" / "cats")
    refused(warm_rkkd(*words, "owls", cwd=folder), "unknown class folder 'cats'", "'cat'")


def test_the_plain_lines_of_the_page_predict_what_rkkd_predict_does(
    folder: Path, warm_rkkd: Program, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (block, *_) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = block.split("\n\n")[-1].strip().splitlines()
    assert len(lines) <= 8
    assert "rkkd_cli" not in block
    image = next((folder / "images/test/dog").glob("1.png"))
    (folder / "image.png").write_bytes(image.read_bytes())
    exported = ("export", "own", "kd_rank", "--seed", "1", "--to", "student.safetensors")
    succeeded(warm_rkkd(*exported, cwd=folder))
    (folder / "plain.py").write_text(block)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    runpy.run_path("plain.py")
    plain = ast.literal_eval(capsys.readouterr().out)
    words = ("predict", "own", "kd_rank", "image.png", "--seed", "1")
    (predicted,) = answer_of(warm_rkkd, folder, *words)["images"]
    assert predicted["probabilities"] == pytest.approx(plain, abs=1e-6)


def test_predict_shows_the_classes_of_files_and_folders(folder: Path, warm_rkkd: Program) -> None:
    words = ("predict", "own", "kd", "images/test/cat", "images/test/dog/0.png", "--top", "2")
    lines = succeeded(warm_rkkd(*words, cwd=folder)).stdout.splitlines()
    assert lines[0].split() == ["image", "class", "%", "class", "2", "%"]
    assert len(lines) == 1 + 5
    for line in lines[1:]:
        _, first, percent, second, other = line.split()
        assert {first, second} < set(CLASSES)
        assert float(percent) >= float(other)


def test_an_onnx_file_gives_the_models_logits_for_any_number_of_images(
    folder: Path, warm_rkkd: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    runtime = pytest.importorskip("onnxruntime")
    answer = warm_rkkd("export", "own", "kd", "--to", "student.onnx", cwd=folder)
    if torch.__version__.startswith("2.6."):
        refused(answer, "cannot write mynet:MyNet as an ONNX graph", status=1, alone=False)
        return
    exported = succeeded(answer)
    assert "mynet:MyNet of arm kd, seed 0, epoch 3, 3 classes" in exported.stdout
    session = runtime.InferenceSession(folder / "student.onnx")
    assert session.get_modelmeta().custom_metadata_map["rkkd.class_names"] == json.dumps(CLASSES)
    monkeypatch.syspath_prepend(str(folder))
    student = read_student(RunDirectory(folder / "results/own"), "kd")
    for count in (1, 5):
        images = example_images(student, count)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        expected = student.module(images).detach().numpy()
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


def test_an_exported_program_needs_no_code_of_the_network(
    folder: Path, warm_rkkd: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeeded(warm_rkkd("export", "own", "kd", "--to", "student.pt2", cwd=folder))
    files = {"rkkd.json": ""}
    model = torch.export.load(folder / "student.pt2", extra_files=files).module()
    assert json.loads(files["rkkd.json"])["model"] == "mynet:MyNet"
    monkeypatch.syspath_prepend(str(folder))
    student = read_student(RunDirectory(folder / "results/own"), "kd")
    images = example_images(student, 3)
    torch.testing.assert_close(model(images), student.module(images))


def test_without_a_name_the_file_is_called_by_arm_and_seed(
    folder: Path, warm_rkkd: Program
) -> None:
    answer = succeeded(warm_rkkd("export", "own", "kd", cwd=folder))
    assert "this is seed 0; --seed takes 1 too" in answer.stderr
    kept = folder / "results/own/final/kd-seed0.safetensors"
    assert (folder / "kd-seed0.safetensors").read_bytes() == kept.read_bytes()
    refused(warm_rkkd("export", "own", "kd", cwd=folder), "exists", "--force")
    succeeded(warm_rkkd("export", "own", "kd", "--force", cwd=folder))


def test_a_trained_student_can_be_the_next_teacher(folder: Path, warm_rkkd: Program) -> None:
    path = "results/own/final/kd-seed0.safetensors"
    with safe_open(folder / path, "pt") as file:
        accuracy = float(file.metadata()["rkkd.test_acc"])
    words = ("--model", "mynet:MyNet", "--dataset", "folder", "--data-root", "images")
    settings = ("dataset.image_size=32", "dataset.resize=squash")
    answer = succeeded(warm_rkkd("teacher", "import", path, *words, *settings, cwd=folder))
    assert f"{accuracy:.2f} % of the 12 test images" in answer.stdout


def test_code_that_has_changed_since_is_refused(folder: Path, warm_rkkd: Program) -> None:
    (folder / "mynet.py").write_text(MYNET + "# another line\n")
    copy = str(Path("results", "own", "code", "mynet.py"))
    for words in (("export", "own", "kd", "--to", "then.pt2"), ("evaluate", "own")):
        refused(warm_rkkd(*words, cwd=folder), "mynet.py has changed since", f"put back {copy}")
    (folder / "mynet.py").write_text(MYNET)
    again = succeeded(warm_rkkd("export", "own", "kd", "--to", "now.safetensors", cwd=folder))
    assert "changed" not in again.stderr


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("export", "own", "kd", "--to", "x.bin"), ("x.bin", ".safetensors, .onnx, .pt2")),
        (("export", "own", "kd", "--to", "no/x.pt2"), ("no folder no",)),
        (("export", "own", "kdd"), ("unknown arm 'kdd'", "did you mean 'kd'")),
        (("export", "own", "kd", "--seed", "7"), ("unknown seed '7'", "0, 1")),
        (("export", "own", "kd", "--best"), ("no best weights", "--monitor")),
        (("predict", "own", "kd", "none.png"), ("none.png",)),
        (("predict", "own", "kd", "mynet.py"), ("mynet.py",)),
        (("evaluate", "own", "--split", "val"), ("no validation images",)),
        (("evaluate", "own", "--data-root", "none"), ("no such image folder: none",)),
        (("evaluate", "own", "--data-root", "results"), ("no class folders", "results")),
    ],
)
def test_what_is_not_there_is_said_in_one_sentence(
    words: tuple[str, ...], parts: tuple[str, ...], folder: Path, warm_rkkd: Program
) -> None:
    refused(warm_rkkd(*words, cwd=folder), *parts)


def test_a_run_that_is_not_at_its_end_says_how_to_get_there(
    interrupted: Path, warm_rkkd: Program
) -> None:
    answer = warm_rkkd("export", "stopped", "kd", cwd=interrupted.parents[1])
    refused(answer, "no final weights yet: the run is interrupted", "rkkd resume stopped")


def test_a_run_of_a_version_that_kept_no_weights_says_so(
    tmp_path: Path, warm_rkkd: Program
) -> None:
    sample, ours = PAGE.parents[1] / "results/digits-sample", tmp_path / "results/sample"
    shutil.copytree(sample, ours, ignore=shutil.ignore_patterns("final", "figures"))
    refused(warm_rkkd("predict", "sample", "kd", "x.png", cwd=tmp_path), "earlier version")
