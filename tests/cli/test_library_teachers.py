"""Teachers of torchvision and timm as a user types them: import, export, run."""

import json
from pathlib import Path

import pytest
import torch
from running import FolderMaker, Program, quick, refused, succeeded
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchvision import models

NAME, FILE = "torchvision:mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth"
ASKS = "say which model it is with --{0}, such as --{0} timm:NAME"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"RKKD_CACHE": str(tmp_path / "cache")}


@pytest.mark.slow
def test_a_file_of_torchvision_is_imported_exported_and_teaches(
    tmp_path: Path, make_folder: FolderMaker, home: dict[str, str], warm_rkkd: Program
) -> None:
    data = ("--dataset", "folder", "--data-root", str(make_folder(classes=3, size=32)))
    network = models.mobilenet_v3_small(num_classes=3)
    torch.save(network.state_dict(), tmp_path / FILE)

    def rkkd(*words: str) -> str:
        return succeeded(warm_rkkd(*words, "--device", "cpu", cwd=tmp_path, env=home)).stdout

    said = rkkd("teacher", "import", FILE, *data).splitlines()
    assert said[0].startswith(f"teacher {NAME}: ")
    assert f"taken from the PyTorch file {FILE}; sha256" in said[1]
    assert f"--teacher {NAME} --teacher-weights" in said[-1]

    exported = "torchvision_mobilenet_v3_small_folder.safetensors"
    answer = warm_rkkd("teacher", "export", NAME, cwd=tmp_path, env=home)
    assert answer.stdout.startswith(f"{exported}: {NAME}, 3 classes"), answer.stderr
    with safe_open(tmp_path / exported, "pt") as file:
        told = file.metadata()
    assert (told["rkkd.model"], told["rkkd.image_size"]) == (NAME, "32x32")
    (tmp_path / exported).rename(tmp_path / "t.safetensors")
    assert f"teacher {NAME}: " in rkkd("teacher", "import", "t.safetensors", *data)
    again, first = load_file(tmp_path / "t.safetensors"), network.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())

    quick = ("--epochs", "1", "--seeds", "0", "--json", "training.batch_size=6")
    teacher = ("--teacher-weights", FILE)  # which tells its model
    ran = json.loads(rkkd("run", "--student", NAME, *teacher, *data, *quick))
    assert (ran["teachers"][0]["source"], ran["teachers"][0]["model"]) == ("checkpoint", NAME)


@pytest.mark.slow
def test_a_file_of_another_model_or_image_size_is_one_sentence(
    tmp_path: Path, make_folder: FolderMaker, home: dict[str, str], warm_rkkd: Program
) -> None:
    timm = pytest.importorskip("timm")
    vit = "timm:vit_tiny_patch16_224"
    data = ("--dataset", "folder", "--data-root", str(make_folder(classes=3, size=32)))
    torch.save(models.mobilenet_v3_small(num_classes=3).state_dict(), tmp_path / FILE)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=3)
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    stated = {"rkkd.model": vit, "rkkd.options": '{"drop_path_rate": 0.1}'}
    save_file(network.state_dict(), tmp_path / "student.safetensors", stated)
    torch.save({"own.weight": torch.zeros(3, 4), "own.bias": torch.zeros(3)}, tmp_path / "own.pth")
    size = f"holds a {vit} trained on images of 224×224, and has their positional embeddings; from "
    size += "the dataset folder it gets 32×32: resample its images with teacher.image_size=224\n"
    for words, part in (
        (("teacher", "import", "vit.pth", "--model", vit), size),
        (("teacher", "import", "student.safetensors"), size),
        (("run", "--teacher", vit, "--teacher-checkpoint", "vit.pth"), size),
        (("teacher", "import", "own.pth"), ASKS.format("model")),
        (("run", "--teacher-checkpoint", "own.pth"), ASKS.format("teacher")),
        (
            ("run", "--teacher", "cnn2", "--teacher-checkpoint", FILE),
            f"it holds a {NAME}, not a cnn2; add --teacher {NAME}\n",
        ),
    ):
        assert part in refused(warm_rkkd(*words, *data, cwd=tmp_path, env=home)) + "\n"
    assert not (tmp_path / "cache" / "teachers").exists()


@pytest.mark.slow
def test_a_model_with_options_is_the_same_in_every_command(
    tmp_path: Path, home: dict[str, str], warm_rkkd: Program
) -> None:
    pytest.importorskip("timm")
    name = "timm:vit_tiny_patch16_224"
    structure = ("patch_size=4", "depth=2", "embed_dim=24")

    def options(role: str) -> list[str]:
        return [f"{role}.options.{option}" for option in structure]

    def rkkd(*words: str) -> str:
        return succeeded(warm_rkkd(*words, cwd=tmp_path, env=home)).stdout

    few = quick("training.epochs=1", "teacher.training.epochs=1", "training.ema_decay=0.5")
    drops = "student.options.drop_path_rate=0.3"
    run = ("run", *few, "--student", name, *options("student"), drops)
    rkkd(*run, "--stack", "--name", "vit")
    described = f"{name} (depth=2, drop_path_rate=0.3, embed_dim=24, patch_size=4)"
    assert f"student {described}: " in rkkd("show", "vit")
    rows = rkkd("evaluate", "vit", "--json")
    assert {one["arm"] for one in json.loads(rows)["students"]} == {"kd", "kd_rank"}

    file = str(tmp_path / "results/vit/ema/kd-seed0.safetensors")
    command = rkkd("teacher", "import", file).splitlines()[-1].split()
    assert {*options("teacher"), "teacher.options.drop_path_rate=0.3"} <= {*command}
    rkkd("teacher", "export", name, "--to", "again.safetensors")
    with safe_open(tmp_path / "again.safetensors", "pt") as exported:
        assert json.loads(exported.metadata()["rkkd.options"])["depth"] == 2
    teaching = ("run", *few, "--dry-run", "--teacher-checkpoint", file)
    assert described in rkkd(*teaching)
    refused(
        warm_rkkd(*teaching, "--teacher", name, cwd=tmp_path, env=home),
        f"{file} is of a model with other options than the teacher's",
        "add teacher.options.patch_size=4 teacher.options.depth=2",
    )
