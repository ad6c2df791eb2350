"""Files of torchvision's and timm's models, which state their model or are told it."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from weights import same

from rkkd_cli.errors import UserError
from rkkd_cli.models import build_model, load_checkpoint
from rkkd_cli.models.checkpoint.layout import read_weights
from rkkd_cli.models.checkpoint.recognise import ImageSpec, RecognisedModel, recognise, trained_size
from rkkd_cli.models.checkpoint.skeleton import SkipInit
from rkkd_cli.models.checkpoint.upgrade import upgrade_keys

timm = pytest.importorskip("timm")

CLASSES = 6
RESNET10T, RESNET18 = "timm:resnet10t", "torchvision:resnet18"


def of_torchvision(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = models.get_model(name, num_classes=CLASSES, **options)
    return model.eval()


def of_timm(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=CLASSES, **options)
    return model.eval()


def found(path: Path, content: Any, model: str | None = None) -> RecognisedModel:
    path.parent.mkdir(exist_ok=True, parents=True)
    torch.save(content, path)
    return recognise(read_weights(path), model)


def gives_outputs_of(answer: RecognisedModel, library: nn.Module, side: int = 64) -> bool:
    model = build_model(answer.model, answer.classes, answer.channels).eval()
    model.load_state_dict(answer.state)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.equal(model(images), library(images))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth"),
        ("resnet18", "models--timm--resnet18.a1_in1k/model.pth"),
    ],
)
def test_a_model_of_torchvision_is_recognised_also_where_the_file_states_nothing(
    name: str, file: str, tmp_path: Path
) -> None:
    library = of_torchvision(name)
    answer = found(tmp_path / file, library.state_dict())
    assert (answer.model, answer.classes, answer.channels) == (f"torchvision:{name}", CLASSES, 3)
    model = build_model(answer.model, CLASSES)
    load_checkpoint(model, tmp_path / file)
    assert same(model.state_dict(), library.state_dict())


def test_torchvisions_training_script_names_the_model(tmp_path: Path) -> None:
    library = of_torchvision("mobilenet_v3_small")
    wrapped = {f"module.{name}": tensor for name, tensor in library.state_dict().items()}
    # references/classification/train.py, without --ema
    content = {
        "model": library.state_dict(),
        "optimizer": {},
        "lr_scheduler": {},
        "epoch": 9,
        "args": argparse.Namespace(model="mobilenet_v3_small", data_path="/data"),
    }
    answer = found(tmp_path / "out" / "model_9.pth", content)
    assert answer.model == "torchvision:mobilenet_v3_small"
    assert gives_outputs_of(answer, library)
    assert (
        found(tmp_path / "out" / "x.pth", content | {"model": wrapped}).stripped_prefix == "module."
    )


def test_timms_training_script_names_the_model(tmp_path: Path) -> None:
    library = of_timm("resnet10t")
    # timm/utils/checkpoint_saver.py
    content = {
        "epoch": 9,
        "arch": "resnet10t",
        "state_dict": library.state_dict(),
        "optimizer": {},
        "version": 2,
        "args": argparse.Namespace(model="resnet10t"),
    }
    answer = found(tmp_path / "20240101-120000-resnet10t-176" / "model_best.pth.tar", content)
    assert (answer.model, answer.classes) == (RESNET10T, CLASSES)
    assert gives_outputs_of(answer, library)


@pytest.mark.parametrize(
    "metadata",
    [
        {"architecture": "resnet10t"},
        {"model": "resnet10t.c3_in1k"},
        {"rkkd.model": "timm:resnet10t", "model": "resnet18"},
    ],
)
def test_metadata_name_the_model(metadata: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(of_timm("resnet10t").state_dict(), path, {"format": "pt", **metadata})
    assert recognise(read_weights(path)).model.startswith(RESNET10T)


def test_a_name_that_both_libraries_have_is_asked_unless_the_file_is_timms(tmp_path: Path) -> None:
    content = {"arch": "resnet18", "state_dict": of_torchvision("resnet18").state_dict()}
    with pytest.raises(UserError, match=r"fits torchvision:resnet18, timm:resnet18 alike; say"):
        found(tmp_path / "x.pth", content)
    assert found(tmp_path / "x.pth", content | {"version": 2}).model == "timm:resnet18"


def test_auxiliary_heads_are_left_out_and_nothing_else(tmp_path: Path) -> None:
    library = of_torchvision("googlenet", aux_logits=True, init_weights=False)
    state, path = library.state_dict(), tmp_path / "googlenet-0011aabb.pth"
    answer = found(path, state, "torchvision:googlenet")
    assert (answer.model, answer.dropped_heads) == ("torchvision:googlenet", ("aux1", "aux2"))
    left = {name for name in state if name not in answer.state}
    assert left == {name for name in state if name.startswith(("aux1.", "aux2."))}
    assert gives_outputs_of(answer, library)
    load_checkpoint(build_model(answer.model, CLASSES), path)
    for more in ("aux3.conv.weight", "more.weight"):
        with pytest.raises(UserError, match="1 unexpected"):
            found(tmp_path / "x.pth", {**state, more: torch.zeros(1)}, answer.model)


@pytest.mark.parametrize(
    ("make", "options"), [(of_torchvision, {"init_weights": False}), (of_timm, {})]
)
def test_inceptions_auxiliary_head_is_left_out(
    make: Callable[..., nn.Module], options: dict[str, bool]
) -> None:
    with torch.device("meta"), SkipInit():
        state = make("inception_v3", aux_logits=True, **options).state_dict()
        target = make("inception_v3", aux_logits=False, **options).state_dict()
    kept, heads = upgrade_keys(state, target)
    assert heads == ("AuxLogits",)
    assert kept.keys() == target.keys()


def test_auxiliary_heads_of_other_models_are_not_left_out(tmp_path: Path) -> None:
    state = of_torchvision("resnet18").state_dict() | {"aux1.weight": torch.zeros(1)}
    with pytest.raises(UserError, match=r"1 unexpected \(first: unexpected aux1.weight\)"):
        found(tmp_path / "x.pth", state, RESNET18)


@pytest.mark.parametrize(
    ("name", "renamed"),
    [
        ("densenet121", [("norm1.", "norm.1."), ("conv2.", "conv.2."), ("norm2.", "norm.2.")]),
        ("vit_b_32", [("mlp.0.", "mlp.linear_1."), ("mlp.3.", "mlp.linear_2.")]),
    ],
)
def test_names_of_torchvisions_older_files(name: str, renamed: list[tuple[str, str]]) -> None:
    with torch.device("meta"), SkipInit():
        state = of_torchvision(name).state_dict()
    old = dict(state)
    for today, then in renamed:
        old = {re.sub(rf"(?<=\.){re.escape(today)}", then, k): t for k, t in old.items()}
    assert sum(key not in state for key in old) > 20
    assert upgrade_keys(old, state) == (dict(state), ())


@pytest.mark.slow
def test_a_vision_transformer_of_another_size(tmp_path: Path) -> None:
    name = "deit_tiny_patch16_224"
    own, small, odd = (of_timm(name, img_size=side, depth=1) for side in (224, 32, 80))
    states = [model.state_dict() for model in (own, small, odd)]
    full = of_timm(name).state_dict()
    for state in states:  # as many blocks as the model has
        state.update({k: v for k, v in full.items() if k.startswith("blocks.")})
    path, model = tmp_path / "x.pth", f"timm:{name}"
    answers = [found(path, state, model) for state in states[:2]]
    assert [answer.size for answer in answers] == [None, (32, 32)]
    assert [trained_size(answer) for answer in answers] == [(224, 224), (32, 32)]
    torch.save(states[2], path)
    assert recognise(read_weights(path), model, ImageSpec(6, 3, (80, 80))).size == (80, 80)
    with pytest.raises(UserError, match=r"of another architecture: pos_embed is"):
        recognise(read_weights(path), model)


def test_what_is_stated_has_to_fit(tmp_path: Path) -> None:
    content = {"arch": "resnet18", "model": of_timm("resnet10t").state_dict()}
    with pytest.raises(UserError, match=r"it states 'resnet18'\): it has .*say which model it is"):
        found(tmp_path / "x.pth", content)
    with pytest.raises(UserError, match=r"of another architecture: .* missing"):
        found(tmp_path / "x.pth", content, RESNET18)


def test_a_file_may_not_have_code_imported(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('trace').touch()\n")
    with pytest.raises(UserError, match="fits no model"):
        found(tmp_path / "x.pth", {"arch": "evil:net", "model": {"a.b": torch.zeros(1)}})
    assert not Path("trace").exists()


def test_what_is_typed_is_checked(tmp_path: Path) -> None:
    state = of_timm("resnet10t").state_dict()
    with pytest.raises(UserError, match="unknown torchvision model 'resnet19'; did you mean"):
        found(tmp_path / "x.pth", state, "torchvision:resnet19")
    own = "torch.nn:Linear"
    with pytest.raises(
        UserError, match=f"model {own} cannot be called by the names of its parameters"
    ):
        found(tmp_path / "x.pth", state, own)


def test_looking_for_the_model_draws_no_random_number(tmp_path: Path) -> None:
    content = {"arch": "resnet10t", "model": of_timm("resnet10t").state_dict()}
    torch.save(content, tmp_path / "x.pth")
    before = torch.get_rng_state()
    recognise(read_weights(tmp_path / "x.pth"))
    assert torch.equal(torch.get_rng_state(), before)
