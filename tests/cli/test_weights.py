"""Weights to begin with and images of another size, as a user types them."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from running import (
    QUICK,
    TWELVE,
    FolderMaker,
    Program,
    has_rows,
    refused,
    signalled,
    succeeded,
)
from safetensors import safe_open
from written import manifest_of

from rkkd_cli.models import build_model
from rkkd_cli.records.run_directory import RunDirectory

SQUEEZENET = "torchvision:squeezenet1_1"
TINY = ("--epochs", "1", "--seeds", "0", "training.batch_size=6", "teacher.training.epochs=1")
NOWHERE = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}


@pytest.fixture
def weights(tmp_path: Path) -> Callable[..., str]:
    """Write the weights of a model for so many classes: ``weights("digits_student", 5)``."""

    def write(model: str, classes: int, seed: int = 0, channels: int = 1) -> str:
        torch.manual_seed(seed)
        state = build_model(model, classes, channels).state_dict()
        torch.save(state, tmp_path / f"{model}.pt")
        return f"{model}.pt"

    return write


def test_a_student_begins_with_a_file_and_goes_on_with_no_other(
    tmp_path: Path, weights: Callable[..., str], warm_rkkd: Program
) -> None:
    file, run = weights("digits_student", 5), tmp_path / "results" / "began"
    shutil.copy(tmp_path / file, tmp_path / "kept.pt")
    words = ("run", *TWELVE, "-q", "--student-weights", file, "--name", "began")
    signalled(warm_rkkd, run, has_rows(run, 2), *words)
    recorded = {arm: facts["weights"] for arm, facts in manifest_of(run)["students"].items()}
    sha256 = hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
    note = "the head (fc) of 5 classes is replaced by one of 10 with random weights"
    facts = {"name": file, "source": file, "sha256": sha256, "note": note}
    assert recorded == {"kd": facts, "kd_rank": facts}
    shown = succeeded(warm_rkkd("show", "began", cwd=tmp_path)).stdout
    assert f"multiply-adds an image, from {file} ({note})" in shown
    weights("digits_student", 5, seed=1)
    result = warm_rkkd("resume", "began", "-q", cwd=tmp_path)
    refused(result, f"the weights {file} of digits_student are not those that the run began with")
    shutil.copy(tmp_path / "kept.pt", tmp_path / file)
    succeeded(warm_rkkd("resume", "began", "-q", cwd=tmp_path))


def test_a_teacher_whose_head_is_replaced_is_trained_or_refused(
    tmp_path: Path, weights: Callable[..., str], warm_rkkd: Program
) -> None:
    file = weights("digits_teacher", 5)
    words = ("run", *QUICK, "--teacher", "digits_teacher", "--teacher-weights", file)
    first = succeeded(warm_rkkd(*words, "--json", cwd=tmp_path))
    (teacher,) = json.loads(first.stdout)["teachers"]
    assert teacher["source"] == "trained"
    assert teacher["weights"]["name"] == file
    note = "the head (fc) of 5 classes is replaced by one of 10 with random weights"
    assert teacher["weights"]["note"] == note
    assert f"the teacher digits_teacher begins with {file}; {note}" in first.stderr
    again = json.loads(succeeded(warm_rkkd(*words, "--json", cwd=tmp_path)).stdout)["teachers"][0]
    assert (again["source"], again["sha256"]) == ("cache", teacher["sha256"])
    assert again["weights"] == teacher["weights"]
    without = ("run", "teacher.model=digits_teacher", f"teacher.weights={file}")
    for dry in ((), ("--dry-run",)):
        answer = warm_rkkd(*without, "teacher.training=none", *dry, cwd=tmp_path)
        refused(answer, "have 5 classes, the dataset digits has 10 classes: the teacher's head")


def test_the_former_key_is_read_as_the_present_one(
    tmp_path: Path, weights: Callable[..., str], warm_rkkd: Program
) -> None:
    file = weights("digits_teacher", 10)
    preset = succeeded(warm_rkkd("cat", "rank_grad", cwd=tmp_path)).stdout
    old = preset.replace("[teacher]\n", f'[teacher]\ncheckpoint = "{file}"\n')
    assert old != preset
    (tmp_path / "old.toml").write_text(old)
    for words in (("old.toml",), (f"teacher.checkpoint={file}",), ("--teacher-checkpoint", file)):
        answer = succeeded(warm_rkkd("run", *words, "--dry-run", "--json", cwd=tmp_path))
        plan = json.loads(answer.stdout)
        assert plan["experiment"]["teacher"]["weights"] == file
        assert plan["streams"][0]["teacher_seconds"] == 0


def test_weights_of_a_library_come_from_its_cache_or_say_where_to_get_them(
    tmp_path: Path, make_folder: FolderMaker, warm_rkkd: Program
) -> None:
    from torchvision import models

    env = {"TORCH_HOME": str(tmp_path / "home"), **NOWHERE}
    data = ("--dataset", "folder", "--data-root", str(make_folder(classes=3, size=32)))
    models_of_run = ("--teacher", "cnn2", "--student", SQUEEZENET, "student.image_size=64")
    words = ("run", *data, *models_of_run, *TINY, "student.weights=pretrained", "--name", "pre")
    plan = succeeded(warm_rkkd(*words, "--dry-run", cwd=tmp_path, env=env)).stdout
    for part in (
        "from IMAGENET1K_V1 (the head of 1000 classes is replaced by one of 3",
        "images resampled to 64×64, normalised with mean 0.485, 0.456, 0.406",
        "IMAGENET1K_V1 would be downloaded from https://download.pytorch.org/models/squeezenet1_1-",
    ):
        assert part in plan
    file = tmp_path / "home" / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    refused(
        warm_rkkd(*words, cwd=tmp_path, env=env), "cannot download https://", f"put it at {file}",
        status=1, alone=False,
    )  # fmt: skip
    assert not (tmp_path / "results").exists()
    torch.manual_seed(0)
    torch.save(models.squeezenet1_1().state_dict(), file)
    succeeded(warm_rkkd(*words, cwd=tmp_path, env=env))
    facts = manifest_of(tmp_path / "results" / "pre")["students"]["kd"]
    assert facts["weights"]["source"].startswith("https://download.pytorch.org/models/squeezenet")
    assert facts["weights"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert facts["input"]["image_size"] == [64, 64]
    assert facts["input"]["std"] == [0.229, 0.224, 0.225]


@pytest.mark.slow
def test_a_student_of_another_size_is_measured_and_exported_at_it(
    tmp_path: Path, make_folder: FolderMaker, warm_rkkd: Program
) -> None:
    root = make_folder(classes=3, train=12, test=6, size=16)
    data = ("--dataset", "folder", "--data-root", str(root), "--device", "cpu")
    sizes = ("student.image_size=24", "student.mean=0.5,0.5,0.5", "student.std=0.25,0.25,0.25")
    models = ("--teacher", "cnn2", "--student", "resnet8", "teacher.image_size=20")

    def rkkd(*words: str) -> str:
        return succeeded(warm_rkkd(*words, cwd=tmp_path)).stdout

    rkkd("run", *data, *models, *sizes, *TINY, "--name", "sized", "-q")
    path = RunDirectory(tmp_path / "results" / "sized").weights("final", "kd", 0)
    with safe_open(path, "pt") as file:
        told = file.metadata()
    assert (told["rkkd.image_size"], told["rkkd.resampled_from"]) == ("24x24", "16x16")
    assert told["rkkd.mean"] == "[0.5, 0.5, 0.5]"
    measured = [
        json.loads(rkkd("evaluate", "sized", "kd", *where, "--json"))["students"][0]
        for where in ((), ("--data-root", str(root)))
    ]
    assert measured[0]["acc"] == measured[1]["acc"] == float(told["rkkd.test_acc"])
    assert measured[0]["ce"] == pytest.approx(measured[1]["ce"], abs=1e-4)
    assert "its input, images, is (N, 3, 24, 24)" in rkkd("export", "sized", "kd", "--to", "s.pt2")
    plain = warm_rkkd("teacher", "import", str(path), *data, cwd=tmp_path)
    assert "measured on images of 24x24, here they are 16x16; teacher.image_size" in plain.stderr
    own = ("teacher.image_size=24", *(word.replace("student", "teacher") for word in sizes[1:]))
    sized = warm_rkkd("teacher", "import", str(path), *data, *own, cwd=tmp_path)
    assert "warning: the teacher was measured" not in succeeded(sized).stderr
    assert "teacher.image_size=24" in sized.stdout.splitlines()[-1]


def test_sizes_and_weights_that_cannot_be_are_one_sentence(
    tmp_path: Path, weights: Callable[..., str], warm_rkkd: Program
) -> None:
    file = weights("digits_teacher", 10)
    vit = ("--student", "timm:test_vit")
    for words, part in (
        (("student.image_size=0",), "student.image_size = 0: must be greater than or equal to 4"),
        (("teacher.std=0",), "teacher.std = (0,): must be greater than 0 for every channel"),
        (("student.mean=1,1",), "student.mean has 2 values, and the images have 1 channel"),
        ((*vit, "student.image_size=30"), "timm:test_vit"),
        (("--student-weights", file), "it holds a digits_teacher, not a digits_student; add --stu"),
        (("--student-weights", "pretrained"), "there are no published weights of digits_student"),
        ((*vit, "--student-weights", "r161"), "did you mean 'r160_in1k'"),
    ):
        refused(warm_rkkd("run", *words, "--dry-run", cwd=tmp_path), part)
