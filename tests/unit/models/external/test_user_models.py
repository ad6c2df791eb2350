"""A user's own models: taken, wrapped, or refused in one sentence."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rkkd_cli.errors import UserError
from rkkd_cli.models import build_model, check_model_name, feature_shapes
from rkkd_cli.plugins import load_plugin

CODE = """
import torch
from torch import nn
from rkkd_cli.models.zoo.small import PlainCNN

class Net(nn.Module):
    def __init__(self, num_classes, in_channels, pool=None):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.pool = pool
        self.fc = nn.Linear(16, num_classes)
    def forward(self, x):
        x = torch.relu(self.down(self.stem(x)))
        return self.fc(self.pool(x).flatten(1))

averaging = lambda classes, in_chans: Net(classes, in_chans, nn.AdaptiveAvgPool2d(1))
largest = lambda n_classes, in_channels: Net(n_classes, in_channels, nn.AdaptiveMaxPool2d(1))

class Functional(Net):
    def forward(self, x):
        return self.fc(self.down(self.stem(x)).mean((2, 3)))

def sequential(num_classes, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, num_classes),
    )

def perceptron(num_classes, in_channels):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64 * in_channels, 32), nn.ReLU(), nn.Linear(32, num_classes)
    )

def classifier(num_classes, in_channels):
    return PlainCNN((4, 8), (0,), num_classes, in_channels)

def no_module(num_classes, in_channels): return 3
def two_outputs(num_classes, in_channels): return Two()
def wrong_width(num_classes, in_channels): return averaging(num_classes + 1, in_channels)
def no_argument(): return nn.Identity()
def raises(num_classes): raise KeyError("depth")
def colour_only(num_classes, width=4):
    parts = nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*parts, nn.Linear(width, num_classes))
def by_keywords(**options): return sequential(**options)
def channels_first(in_channels, depth, *, classes): return sequential(classes, in_channels)
def linearless(num_classes, in_channels): return Free(num_classes)
def fails(num_classes, in_channels): return nn.Linear(5, num_classes)
def clash(num_classes, in_channels):
    model = sequential(num_classes, in_channels)
    model.classify = nn.Identity()
    return model
instance = nn.Identity()

class Two(nn.Module):
    def forward(self, x): return x, x

class Free(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width
        self.scale = nn.Parameter(torch.ones(1))
    def forward(self, x): return x.flatten(1)[:, :self.width] * self.scale
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "networks_of_a_user.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("networks_of_a_user", None)


@pytest.mark.parametrize(
    ("name", "maps", "pooled", "final"),
    [
        ("averaging", [(8, 8, 8), (16, 4, 4)], 16, (16, 4, 4)),
        ("largest", [(8, 8, 8), (16, 4, 4)], 16, None),
        ("Functional", [(8, 8, 8), (16, 4, 4)], 16, (16, 4, 4)),
        ("sequential", [(8, 6, 6)], 8, (8, 6, 6)),
        ("perceptron", [], 32, None),
        ("classifier", [(4, 4, 4), (8, 4, 4)], 8, (8, 4, 4)),
    ],
)
def test_features_of_a_users_network(
    name: str, maps: list[tuple[int, ...]], pooled: int, final: tuple[int, ...] | None
) -> None:
    model = build_model(f"networks_of_a_user:{name}", 5, 2, (8, 8))
    assert model.training
    x = torch.randn(3, 2, 8, 8)
    features = model.eval().forward_features(x)
    assert torch.equal(features.logits, model(x))
    assert [tuple(one.shape[1:]) for one in features.maps] == maps
    assert features.pooled.shape == (3, pooled)
    if final is None:
        assert features.final is None
    else:
        assert features.final is not None
        torch.testing.assert_close(model.classify(features.final), features.logits)
    shapes = feature_shapes(model, 2, (8, 8))
    assert [tuple(shape) for shape in shapes.maps] == maps
    assert shapes.pooled == pooled


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_module", "returned int, not an nn.Module"),
        ("two_outputs", r"must return logits \(B, 5\), not no tensor"),
        ("wrong_width", r"must return logits \(B, 5\), not \(2, 6\)"),
        ("no_argument", "no parameter num_classes; .* that, networks_of_a_user:make_no_argument"),
        ("channels_first", "it needs a value for depth, which student.options or"),
        ("raises", r"fails when it is called as raises\(num_classes=5\): KeyError: 'depth'"),
        ("linearless", "no linear layer or convolution"),
        ("fails", "fails on images of 2×3×8×8"),
        ("clash", "has a part named 'classify'"),
        ("instance", "is a module itself"),
        ("sequentail", "did you mean networks_of_a_user:sequential"),
    ],
)
def test_what_is_no_model_is_answered_in_one_sentence(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build_model(f"networks_of_a_user:{name}", 5, 3, (8, 8))
    assert "\n" not in str(caught.value)


def test_names_are_checked_without_building() -> None:
    check_model_name("networks_of_a_user:fails")
    with pytest.raises(UserError, match="by the names of its parameters"):
        check_model_name("networks_of_a_user:no_argument")


def test_a_parameter_with_another_meaning_keeps_its_default() -> None:
    model = build_model("networks_of_a_user:colour_only", 5, 3, (8, 8))
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 5)
    assert model.get_submodule("0").out_channels == 4
    with pytest.raises(UserError, match="fails on images of 2×1×8×8"):
        build_model("networks_of_a_user:colour_only", 5, 1, (8, 8))
    assert build_model("networks_of_a_user:by_keywords", 5, 1, (8, 8)).training


def test_the_refusal_has_a_wrapper_that_works_once_it_is_filled_in() -> None:
    with pytest.raises(UserError) as refusal:
        check_model_name("networks_of_a_user:channels_first")
    wrapper = "\n".join(line[4:] for line in refusal.value.__notes__)
    assert wrapper == (
        "def make_channels_first(num_classes, in_channels):\n"
        "    return channels_first(in_channels=in_channels, depth=..., classes=num_classes)"
    )
    with Path("networks_of_a_user.py").open("a", encoding="utf-8") as file:
        file.write(f"\n{wrapper.replace('...', '3')}\n")
    build_model("networks_of_a_user.py:make_channels_first", 5, 2, (8, 8))


def test_a_file_without_a_name_is_told_what_it_has() -> None:
    with pytest.raises(UserError, match=r"networks_of_a_user\.py:Net or .*:Functional"):
        check_model_name("networks_of_a_user.py")


def test_looking_into_a_users_network_leaves_the_random_generator_alone() -> None:
    torch.manual_seed(0)
    alone = load_plugin("model", "networks_of_a_user:Functional")(5, 3)
    after = torch.rand(1)
    torch.manual_seed(0)
    model = build_model("networks_of_a_user:Functional", 5, 3, (8, 8))
    feature_shapes(model, 3, (8, 8))
    assert torch.equal(torch.rand(1), after)
    for name, tensor in alone.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
