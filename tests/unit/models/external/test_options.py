"""Options of a model: they reach its builder, or one sentence says why not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.ops import StochasticDepth

from rkkd_cli.errors import UserError
from rkkd_cli.models import Classifier, build_model, check_model_name
from rkkd_cli.models.checkpoint.skeleton import meta_state_dict

VIT = "timm:vit_tiny_patch16_224"
SMALL = {"depth": 2, "embed_dim": 24, "patch_size": 4}
NET = """
from torch import nn

def net(n_classes, width, in_channels=3, image_size=32, drop=0.0, name=""):
    head = nn.Linear(width, n_classes)
    return nn.Sequential(nn.Conv2d(in_channels, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Dropout(drop), head)

def any_net(num_classes, **more):
    return net(num_classes, **more)
"""


@pytest.fixture
def mynet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "mynet.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return "mynet.py:net"


def small_vit(**options: Any) -> Classifier:
    pytest.importorskip("timm")
    return build_model(VIT, 10, 1, (8, 8), SMALL | options)


def test_options_reach_timms_builder() -> None:
    model: Any = small_vit(drop_path_rate=0.5)
    assert len(model.blocks) == 2
    assert model.blocks[1].drop_path1.drop_prob == 0.5
    assert model.eval()(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert model.forward_features(torch.zeros(3, 1, 8, 8)).pooled.shape == (3, 24)


def test_options_reach_torchvisions_builder() -> None:
    name = "torchvision:efficientnet_b0"
    options = {"stochastic_depth_prob": 0.7, "dropout": 0.3}
    model = build_model(name, 10, 3, (32, 32), options)
    assert max(m.p for m in model.modules() if isinstance(m, StochasticDepth)) > 0.6
    assert [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)] == [0.3]


@pytest.mark.parametrize("name", ["net", "any_net"])
def test_options_reach_a_function_of_the_users_own(name: str, mynet: str) -> None:
    spec = f"mynet.py:{name}"
    options = {"width": 5, "drop": 0.2, "image_size": 8, "name": "mine"}
    check_model_name(spec, options)
    model = build_model(spec, 10, 1, (8, 8), options)
    state = model.state_dict()
    assert (state["0.weight"].shape[:2], state["4.bias"].shape) == ((5, 1), (10,))
    assert [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)] == [0.2]


def test_a_state_dict_without_values_is_that_of_the_options() -> None:
    state = small_vit().state_dict()
    skeleton = meta_state_dict(VIT, 10, 1, (8, 8), tuple(SMALL.items()))
    assert {n: t.shape for n, t in skeleton.items()} == {n: t.shape for n, t in state.items()}


def test_the_same_options_draw_the_same_weights() -> None:
    states = []
    for drop_path_rate in (0.0, 0.4):
        torch.manual_seed(3)
        states.append(small_vit(drop_path_rate=drop_path_rate).state_dict())
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "of the zoo": ("resnet20", {"drop_rate": 0.1}, "resnet20 takes no options, and drop_rate is"),
    "unknown": (VIT, SMALL | {"drop_path": 0.1}, "'drop_path'; did you mean 'drop_path_rate'?"),
    "another kind": (VIT, SMALL | {"embed_dim": "wide"}, "built with depth=2, embed_dim='wide'"),
    "pretrained": (VIT, {"pretrained": True}, "pretrained is no option of model timm:vit"),
    "a file": (VIT, {"checkpoint_path": "x.pth"}, "checkpoint_path is no option"),
    "the classes": (VIT, {"num_classes": 3}, "num_classes is no option"),
    "the size": (VIT, {"img_size": 3}, "img_size is no option"),
    "size and options": (VIT, {"depth": 2}, "needs images with sides divisible by 16, not 8×8"),
    "too few": (VIT, SMALL | {"num_heads": 7}, "patch_size=4, num_heads=7 for 8×8 images: "),
    "torchvision's": ("torchvision:resnet18", {"dropuot": 0.1}, "argument 'dropuot'"),
    "torchvision's size": ("torchvision:vit_b_16", {"dropout": 0.1}, "sides divisible by 16"),
    "the user's": ("mynet.py:net", {"widht": 3}, "unknown option of model mynet.py:net 'widht'"),
    "the user's classes": ("mynet.py:net", {"n_classes": 3}, "n_classes is no option"),
    "the user's kind": ("mynet.py:net", {"width": "a"}, "net(width=a, n_classes=10, in"),
    "none": ("mynet.py:net", {}, "needs a value for width, which student.options or"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_built_is_refused_in_a_sentence(what: str, mynet: str) -> None:
    name, options, sentence = REFUSED[what]
    pytest.importorskip(name.partition(":")[0] if name.startswith("timm") else "torchvision")
    with pytest.raises(UserError) as refusal:
        build_model(name, 10, 1, (8, 8), options)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
