"""Which model of the zoo a file holds: the names and shapes of its weights tell."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rkkd_cli.errors import UserError
from rkkd_cli.models import MODELS, build_model
from rkkd_cli.models.checkpoint.layout import common_prefix, read_weights
from rkkd_cli.models.checkpoint.recognise import RecognisedModel, recognise


def found(path: Path, content: Any, model: str | None = None) -> RecognisedModel:
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)
    return recognise(read_weights(path), model)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_recognised_by_its_names_and_shapes(name: str, tmp_path: Path) -> None:
    state = build_model(name, 7).state_dict()
    answer = found(tmp_path / "x.pth", state)
    assert (answer.model, answer.classes, answer.channels) == (name, 7, 3)
    assert answer.state.keys() == state.keys()


@pytest.mark.parametrize("name", ["digits_teacher", "resnet8", "cnn2"])
def test_colour_channels_are_read_from_the_file(name: str, tmp_path: Path) -> None:
    answer = found(tmp_path / "x.pth", build_model(name, 2, 1).state_dict())
    assert (answer.model, answer.classes, answer.channels) == (name, 2, 1)


def test_two_models_alike_have_to_be_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(MODELS, "twin_8", MODELS["resnet8"])
    state = build_model("resnet8", 10).state_dict()
    with pytest.raises(UserError, match="fits resnet8, twin_8 alike; say which with --model"):
        found(tmp_path / "x.pth", state)
    assert found(tmp_path / "x.pth", state, "twin_8").model == "twin_8"


def test_shapes_count_and_no_names(tmp_path: Path) -> None:
    state = build_model("resnet8", 10).state_dict()
    path = tmp_path / "resnet110_vanilla" / "resnet110_best.pth"
    assert found(path, {"model": state, "arch": "resnet20"}).model == "resnet8"


def test_what_fits_no_model_says_what_is_stated_and_asks(tmp_path: Path) -> None:
    state = build_model("resnet8", 10).state_dict()
    state["layer1.0.conv1.weight"] = torch.zeros(16, 16, 5, 5)
    with pytest.raises(UserError) as caught:
        found(tmp_path / "x.pth", {"state_dict": state, "arch": "net\nwork"})
    for part in (
        r"fits no model of the zoo or of torchvision (it states 'net\nwork'): it has",
        "from conv1.weight (16×3×3×3) to fc.bias (10), named as in torchvision's resnet101; say",
        "--model, such as --model timm:NAME (`rkkd ls models timm`) or, for your own, --model",
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


def test_only_a_beginning_of_all_names_is_shared() -> None:
    assert common_prefix(["module.model.a.b", "module.model.c"]) == "module.model."
    assert common_prefix(["model.a", "models.b"]) == ""
    assert common_prefix(["a", "b"]) == ""
    assert common_prefix(["fc.weight"]) == "fc."
