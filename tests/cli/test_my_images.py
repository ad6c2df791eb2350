"""The page "Does it help my student?": every command on it, with one's own images and code."""

import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pages import ROOT, commands, python_blocks
from PIL import Image
from running import Program, refused, succeeded
from torchvision import models

PAGE = ROOT / "docs" / "my-images.md"
CLASSES = ("daisy", "dandelion", "rose", "sunflower", "tulip")


COMMANDS = commands(PAGE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page asks for: sixty images of mixed sizes, a teacher, a student."""
    folder = tmp_path_factory.mktemp("mine")
    generator = np.random.default_rng(0)
    for label in CLASSES:
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(12):
            shape = (*generator.integers(40, 120, 2), 3)
            pixels = generator.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / label / f"{number:02}.jpg")
    torch.manual_seed(0)
    torch.save(models.resnet18(num_classes=len(CLASSES)).state_dict(), folder / "teacher.pt")
    for code in python_blocks(PAGE):
        name = code.partition("\n")[0].removeprefix("# ")
        (folder / name).write_text(code, encoding="utf-8")
    return folder


def test_the_page_has_ten_commands_at_most() -> None:
    assert 8 <= len(COMMANDS) <= 10


@pytest.mark.slow
def test_every_command_of_the_page_does_what_it_says(place: Path, warm_rkkd: Program) -> None:
    said = []
    for command in COMMANDS:
        words = shlex.split(command)
        added = ("--epochs", "1") if words[0] == "run" else ()
        answer = succeeded(warm_rkkd(*words, *added, cwd=place))
        said.append(answer.stdout + answer.stderr)
    printed = f"rkkd {COMMANDS[1]}"
    assert said[0].splitlines()[1:] == [printed, printed.removesuffix(" --dry-run")]
    for part in ("torchvision:resnet18", "5,349", "45 training + 5 validation + 10 test images"):
        assert part in said[1]
    assert "kept as imported-" in said[2]
    rows = pd.read_csv(place / "results" / "study" / "metrics.csv")
    assert rows.groupby("arm").seed.nunique().to_dict() == {"kd": 5, "kd_rank": 5}
    assert "val_acc" in rows
    assert any("accuracy_ends_higher: " in text for text in said)
    own = pd.read_csv(place / "results" / "own_loss" / "metrics.csv")
    assert (own["logit_mse"] > 0).all()
    assert (place / "student.safetensors").is_file()


WORDS = ("run", "my_images", "--student", "mynet.py:MyNet", "--dry-run")


def test_what_goes_wrong_with_a_folder_is_said_with_the_way_out(
    place: Path, warm_rkkd: Program
) -> None:
    answer = warm_rkkd("run", "--data-root", "photos", cwd=place)
    refused(answer, "digits ships inside scikit-learn", "take the preset my_images")
    refused(warm_rkkd(*WORDS, cwd=place), "dataset folder needs --data-root")
    photos = (*WORDS, "--data-root", "photos")
    refused(warm_rkkd(*photos, "--test-share", "0", cwd=place), "with --test-share 0.2")
    refused(warm_rkkd(*photos, "--image-size", "none", cwd=place), "--image-size 64", alone=False)
    refused(warm_rkkd(*photos, "--resize", "stretch", cwd=place), "'crop', 'squash' or 'pad'")
    torch.save({"mine.weight": torch.zeros(5, 3)}, place / "mine.pt")
    answer = warm_rkkd(*photos, "--teacher-checkpoint", "mine.pt", cwd=place)
    refused(answer, "1 tensors of 15 numbers, from mine.weight (5×3)", "--teacher mynet.py:MyNet")


def test_a_folder_with_splits_of_its_own_is_used_as_it_is_and_may_stop_early(
    tmp_path: Path, warm_rkkd: Program
) -> None:
    for split in ("train", "val", "test"):
        for label, count in (("a", 6), ("b", 4)):
            for number in range(count):
                path = tmp_path / "photos" / split / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels + len(split)).save(path)
    words = (
        "run", "rank_grad", "--dataset", "folder", "--data-root", "photos", "--patience", "1",
        "--epochs", "2", "--seeds", "0", "--teacher", "cnn2", "--student", "cnn2",
        "teacher.training.epochs=1", "--batch-size", "5",
    )  # fmt: skip
    succeeded(warm_rkkd(*words, "--name", "x", cwd=tmp_path))
    rows = pd.read_csv(tmp_path / "results" / "x" / "metrics.csv")
    assert rows["val_acc"].between(0, 100).all()
    (tmp_path / "photos" / "val").rename(tmp_path / "photos" / ".val")
    again = warm_rkkd(*words, "--name", "y", "--dry-run", cwd=tmp_path)
    refused(again, "hold some out with dataset.val_share", alone=False)
