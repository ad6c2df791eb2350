"""Which model a file holds: names and shapes tell, what is stated only breaks ties."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rkkd_cli.errors import UserError
from rkkd_cli.models import MODELS, build_model
from rkkd_cli.models.checkpoint.layout import common_prefix, read_weights
from rkkd_cli.models.checkpoint.names import first_named, name_hints
from rkkd_cli.models.checkpoint.recognise import RecognisedModel, recognise


def found(path: Path, content: Any, model: str | None = None) -> RecognisedModel:
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)
    return recognise(read_weights(path), model)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_recognised_by_its_names_and_shapes(name: str, tmp_path: Path) -> None:
    state = build_model(name, 7).state_dict()
    answer = found(tmp_path / f"{name}.pth", state)  # the name tells networks alike apart
    assert (answer.model, answer.classes, answer.channels) == (name, 7, 3)
    assert answer.state.keys() == state.keys()


@pytest.mark.parametrize("name", ["digits_teacher", "resnet8", "cnn2"])
def test_colour_channels_are_read_from_the_file(name: str, tmp_path: Path) -> None:
    answer = found(tmp_path / "x.pth", build_model(name, 2, 1).state_dict())
    assert (answer.model, answer.classes, answer.channels) == (name, 2, 1)


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(MODELS, "twin_8", MODELS["resnet8"])
    return "twin_8"


def test_two_models_alike_have_to_be_told_apart(twin: str, tmp_path: Path) -> None:
    state = build_model("resnet8", 10).state_dict()
    with pytest.raises(UserError, match="fits resnet8, twin_8 alike; say which with --model"):
        found(tmp_path / "x.pth", state)
    assert found(tmp_path / "x.pth", state, twin).model == twin


@pytest.mark.parametrize(
    ("place", "stated"),
    [
        ("x.pth", {"arch": "twin_8"}),
        ("twin_8_best.pth", {}),
        ("twin_8_vanilla/ckpt_epoch_240.pth", {}),
        ("S:twin_8_T:resnet8_cifar100_kd_r:1_a:0_b:0_1/ckpt_epoch_240.pth", {}),
    ],
)
def test_what_is_stated_chooses_between_models_alike(
    place: str, stated: dict[str, str], twin: str, tmp_path: Path
) -> None:
    state = build_model("resnet8", 10).state_dict()
    assert found(tmp_path / place, {"model": state} | stated).model == twin


def test_shapes_count_more_than_what_is_stated(tmp_path: Path) -> None:
    state = build_model("resnet8", 10).state_dict()
    path = tmp_path / "resnet110_vanilla" / "resnet110_best.pth"
    assert found(path, {"model": state, "arch": "resnet20"}).model == "resnet8"


def test_what_fits_no_model_names_the_nearest_and_what_is_stated(tmp_path: Path) -> None:
    state = build_model("resnet8", 10).state_dict()
    state["layer1.0.conv1.weight"] = torch.zeros(16, 16, 5, 5)
    with pytest.raises(UserError) as caught:
        found(tmp_path / "x.pth", {"state_dict": state, "arch": "net\nwork"})
    for part in (
        "fits no model",
        "states 'net\\nwork'",
        "nearest is resnet8",
        "1 of 56",
        "--model",
    ):
        assert part in str(caught.value), part


def test_a_model_that_is_said_but_does_not_fit_tells_how(tmp_path: Path) -> None:
    state = build_model("resnet8", 10).state_dict()
    with pytest.raises(UserError, match=r"another architecture: 30 parameters missing"):
        found(tmp_path / "x.pth", state, "resnet14")


def test_an_unknown_model_is_named_with_the_nearest(tmp_path: Path) -> None:
    state = build_model("resnet8", 10).state_dict()
    with pytest.raises(UserError, match=r"unknown model 'resnet9'; did you mean 'resnet8'"):
        found(tmp_path / "x.pth", state, "resnet9")


def test_looking_for_the_model_draws_no_random_number(tmp_path: Path) -> None:
    torch.save(build_model("resnet8", 10).state_dict(), tmp_path / "x.pth")
    before = torch.get_rng_state()
    recognise(read_weights(tmp_path / "x.pth"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("resnet32x4_vanilla", "resnet32x4"),
        ("resnet32x4_best", "resnet32x4"),
        ("resnet34-b627a593", "resnet34"),
        ("wrn_40_2_vanilla", "wrn_40_2"),
        ("wrn_40_2_cifar100_lr_0.05_decay_0.0005_trial_0", "wrn_40_2"),
        ("ResNet50_vanilla", "ResNet50"),
        ("RESNET50", None),  # could be either
        ("RESNET34.tv_in1k", "resnet34"),
        ("ckpt_epoch_240", None),
        ("", None),
        ("_", None),
    ],
)
def test_names_begin_what_files_and_folders_are_called(word: str, name: str | None) -> None:
    names = ["resnet32", "resnet32x4", "resnet34", "wrn_40_2", "wrn_40_1", "ResNet50", "resnet50"]
    assert first_named([word], names) == name


def test_words_come_from_the_file_its_name_and_its_folder() -> None:
    path = Path("S~resnet8x4_T~resnet32x4_cifar100_kd_x") / "last.pth.tar"
    assert list(name_hints(path, ["stated"])) == ["stated", "last", "resnet8x4"]


def test_only_a_beginning_of_all_names_is_shared() -> None:
    assert common_prefix(["module.model.a.b", "module.model.c"]) == "module.model."
    assert common_prefix(["model.a", "models.b"]) == ""
    assert common_prefix(["a", "b"]) == ""
    assert common_prefix(["fc.weight"]) == "fc."
