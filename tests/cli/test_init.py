"""``rkkd init``: what it writes for folders of each kind is run by the commands that it prints."""

import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from running import Program, refused, succeeded
from torchvision import models

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import load_experiment

SHORT = ("training.epochs=1", "teacher.training.epochs=1", "seeds=0", "device=cpu")


def write_images(folder: Path, count: int, low: int, high: int, mode: str = "RGB") -> None:
    """Write images of random sides from ``low`` to ``high`` into a folder."""
    generator = np.random.default_rng(count)
    folder.mkdir(parents=True)
    for number in range(count):
        height, width = generator.integers(low, high + 1, 2)
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{number}.png")


def classes_in(
    folder: Path, count: int = 10, low: int = 32, high: int = 32, mode: str = "RGB"
) -> Path:
    for name in ("ant", "bee"):
        write_images(folder / name, count, low, high, mode)
    return folder


def started(program: Program, place: Path, *words: str) -> list[list[str]]:
    """Return the words behind ``rkkd`` of the two commands that ``rkkd init`` prints."""
    said = succeeded(program("init", *words, cwd=place)).stdout.splitlines()
    commands = [shlex.split(line) for line in said[1:]]
    assert [one[:2] for one in commands] == [["rkkd", "run"]] * 2
    assert commands[0] == [*commands[1], "--dry-run"]
    return [one[1:] for one in commands]


def written(place: Path, name: str) -> Experiment:
    return load_experiment(str(place / name))


def test_small_images_are_trained_on_as_the_commands_say(
    tmp_path: Path, warm_rkkd: Program
) -> None:
    classes_in(tmp_path / "my images")
    check, run = started(
        warm_rkkd, tmp_path, "my images", "--student", "cnn2", "--teacher", "resnet8"
    )
    said = succeeded(warm_rkkd(*check, cwd=tmp_path)).stdout
    assert "14 training + 2 validation + 4 test images, 32×32" in said
    succeeded(warm_rkkd(*run, *SHORT, "--name", "x", cwd=tmp_path))
    rows = pd.read_csv(tmp_path / "results" / "x" / "metrics.csv")
    assert set(rows.arm) == {"kd", "kd_rank"}
    assert rows["val_acc"].notna().all()


def test_folders_of_any_name_are_found_again(tmp_path: Path, warm_rkkd: Program) -> None:
    name = 'it\'s "mine" \\ größer'
    classes_in(tmp_path / name)
    check, _ = started(warm_rkkd, tmp_path, "--student", "cnn2", "--teacher", "resnet8", name)
    assert "20 image headers read" in succeeded(warm_rkkd(*check, cwd=tmp_path)).stdout


def test_folders_whose_names_mean_something_else_are_found_again(
    tmp_path: Path, warm_rkkd: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("none", "-dashed", "a=b", "~tilde"):
        classes_in(tmp_path / name)
        typed = str(tmp_path / name) if name[0] == "~" else name
        _, run = started(warm_rkkd, tmp_path, "--", typed)
        assert written(tmp_path, f"{name}.toml").dataset.root in (name, str(tmp_path / name))
        assert run[1] == (f"./{name}.toml" if name in ("-dashed", "a=b") else f"{name}.toml")


def test_a_preset_elsewhere_is_run_from_here_and_from_there(
    tmp_path: Path, warm_rkkd: Program
) -> None:
    classes_in(tmp_path / "photos")
    (tmp_path / "study").mkdir()
    check, _ = started(
        warm_rkkd, tmp_path, "photos", "--student=cnn2", "--teacher=resnet8", "--to", "study"
    )
    assert check[1] == "study/photos.toml"
    succeeded(warm_rkkd(*check, cwd=tmp_path))
    succeeded(warm_rkkd("run", "photos.toml", "--dry-run", cwd=tmp_path / "study"))


def test_grey_images_and_splits_of_their_own(tmp_path: Path, warm_rkkd: Program) -> None:
    classes_in(tmp_path / "scans" / "train", low=20, high=28, mode="L")
    classes_in(tmp_path / "scans" / "Test", count=3, low=20, high=28, mode="L")
    words = ("scans", "--student", "cnn2", "--teacher", "resnet8")
    check, _ = started(warm_rkkd, tmp_path, *words)
    said = succeeded(warm_rkkd(*check, cwd=tmp_path)).stdout
    assert "18 training + 2 validation + 6 test images, " in said
    assert "is not used" not in said
    text = (tmp_path / "scans.toml").read_text(encoding="utf-8").replace("\n# ", " ")
    assert "All are grey" in text
    assert "The 6 images of Test/ are tested on" in text
    assert written(tmp_path, "scans.toml").dataset.test_share == 0


def test_mixed_photographs_get_a_network_for_them_without_weights(
    tmp_path: Path, warm_rkkd: Program
) -> None:
    classes_in(tmp_path / "photos", low=150, high=400)
    started(warm_rkkd, tmp_path, "photos")
    made = written(tmp_path, "photos.toml")
    assert (made.student.model, made.dataset.image_size) == ("torchvision:resnet18", 224)
    assert made.student.weights is made.teacher.weights is None
    started(warm_rkkd, tmp_path, "photos", "--force", "--teacher-weights", "pretrained")
    assert written(tmp_path, "photos.toml").teacher.weights == "pretrained"


@pytest.mark.slow
@pytest.mark.parametrize("student", [(), ("--student", "timm:mobilenetv3_small_050")])
def test_mixed_photographs_are_trained_on_as_the_commands_say(
    student: tuple[str, ...], tmp_path: Path, warm_rkkd: Program
) -> None:
    classes_in(tmp_path / "photos", count=6, low=150, high=400)
    check, run = started(warm_rkkd, tmp_path, "photos", *student)
    succeeded(warm_rkkd(*check, cwd=tmp_path))
    succeeded(warm_rkkd(*run, *SHORT, "--name", "x", cwd=tmp_path))


def test_a_file_says_which_teacher_it_holds_and_code_is_typed(
    tmp_path: Path, warm_rkkd: Program
) -> None:
    classes_in(tmp_path / "photos")
    torch.save(models.mobilenet_v3_small(num_classes=2).state_dict(), tmp_path / "teacher.pt")
    code = "from torch import nn\ndef net(num_classes):\n    return nn.Sequential("
    code += (
        "nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))\n"
    )
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    words = ("photos", "--student", "mine.py:net", "--teacher-weights", "teacher.pt")
    check, _ = started(warm_rkkd, tmp_path, *words)
    assert check[2:4] == ["--student", "mine.py:net"]
    assert "mine.py:net" in succeeded(warm_rkkd(*check, cwd=tmp_path)).stdout
    made = written(tmp_path, "photos.toml")
    assert (made.teacher.model, made.teacher.weights) == (
        "torchvision:mobilenet_v3_small",
        "teacher.pt",
    )


def test_what_no_preset_is_written_for_is_said_in_a_sentence(
    tmp_path: Path, warm_rkkd: Program
) -> None:
    classes_in(tmp_path / "one_each", count=1)
    write_images(tmp_path / "flat", 3, 8, 8)
    write_images(tmp_path / "single" / "ant", 3, 8, 8)
    good = classes_in(tmp_path / "good")
    (tmp_path / "broken" / "a").mkdir(parents=True)
    (tmp_path / "broken" / "b").mkdir()
    for label in "ab":
        (tmp_path / "broken" / label / "0.png").write_bytes(b"no image")
    expected = {
        ("one_each",): "1 of 'ant': too few to train on some and test on others",
        ("flat",): "expected train/<class>/*",
        ("single",): "has one class, 'ant'",
        ("nowhere",): "no such image folder: nowhere",
        ("broken",): "no image of broken can be read",
        ("good", "--student", "resnet21"): "unknown model 'resnet21'; did you mean",
        ("good", "--student", "resnet32x4"): "name one with --teacher",
        ("good", "--teacher-weights", "missing.pt"): "missing.pt",
        ("good", "--to", "nowhere/x.toml"): "no folder nowhere",
    }
    for words, sentence in expected.items():
        refused(warm_rkkd("init", *words, cwd=tmp_path), sentence)
    assert not [*tmp_path.glob("*.toml")]
    (tmp_path / "good.toml").write_text("mine", encoding="utf-8")
    refused(warm_rkkd("init", str(good), cwd=tmp_path), "good.toml exists", "--force to replace it")
    assert (tmp_path / "good.toml").read_text(encoding="utf-8") == "mine"


def test_few_images_are_tested_on_as_many_as_can_be_and_strays_are_named(
    tmp_path: Path, warm_rkkd: Program
) -> None:
    classes_in(tmp_path / "few", count=2)
    (tmp_path / "few" / "notes.txt").touch()
    answer = warm_rkkd("init", "few", cwd=tmp_path)
    assert "left out of few: 1 files that are no images" in succeeded(answer).stderr
    made = written(tmp_path, "few.toml")
    assert (made.dataset.test_share, made.dataset.val_share) == (0.5, 0.0)
