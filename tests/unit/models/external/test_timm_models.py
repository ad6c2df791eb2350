"""timm's classifiers as models: their own logits and names, with features."""

import copy
import sys

import pytest
import torch
from torch import Tensor

from rkkd_cli.errors import UserError
from rkkd_cli.models import build_model, check_model_name, feature_shapes

timm = pytest.importorskip("timm")

# Name, side of the images (None: the model's own), number of maps, whether a map is averaged.
MODELS = [
    ("resnet10t", 32, 5, True),
    ("deit_tiny_patch16_224", 32, 4, False),
    ("deit_tiny_distilled_patch16_224", 64, 4, False),
    ("mobilenetv3_small_050", 32, 5, True),
    ("convnext_atto", 32, 4, True),
    ("swin_tiny_patch4_window7_224", 64, 4, True),
    ("levit_128s", 224, 3, False),
    ("crossvit_9_240", 240, 0, False),
]


def images(channels: int, side: int) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, side, side, generator=draws)


@pytest.mark.parametrize(("name", "side", "count", "averages"), MODELS)
def test_logits_names_and_features(name: str, side: int, count: int, averages: bool) -> None:
    model = build_model(f"timm:{name}", 10, 1, (side, side)).eval()
    library = model.library
    assert isinstance(library, torch.nn.Module)
    x = images(1, side)
    with torch.no_grad():
        features = model.forward_features(x)
        assert torch.equal(features.logits, library(x))
        assert torch.equal(features.logits, model(x))
        assert (features.final is not None) == averages
        if features.final is not None:
            assert torch.equal(model.classify(features.final), features.logits)
    assert list(model.state_dict()) == list(library.state_dict())
    assert [k for k, _ in model.named_parameters()] == [k for k, _ in library.named_parameters()]
    areas = [one.shape[2] * one.shape[3] for one in features.maps]
    assert len(areas) == count
    assert areas == sorted(areas, reverse=True)
    shapes = feature_shapes(model, 1, (side, side))
    assert [tuple(s) for s in shapes.maps] == [tuple(one.shape[1:]) for one in features.maps]
    assert shapes.pooled == features.pooled.shape[1]


def test_weights_of_the_library_load_and_give_its_logits() -> None:
    library = timm.create_model("resnet10t", num_classes=10).eval()
    model = build_model("timm:resnet10t", 10).eval()
    model.load_state_dict(library.state_dict(), strict=True)
    x = images(3, 32)
    with torch.no_grad():
        assert torch.equal(model(x), library(x))


@pytest.mark.parametrize("name", ["resnet10t", "deit_tiny_patch16_224"])
def test_gradients_reach_the_first_layer(name: str) -> None:
    model = build_model(f"timm:{name}", 10, 3, (32, 32)).train()
    features = model.forward_features(images(3, 32))
    loss = features.maps[-1].square().sum() + features.pooled.sum() + features.logits.sum()
    (first,) = torch.autograd.grad(loss, [next(iter(model.parameters()))])
    assert first.abs().sum() > 0


def test_a_copy_shares_nothing() -> None:
    model = build_model("timm:resnet10t", 10, 3, (32, 32)).eval()
    x = images(3, 32)
    with torch.no_grad():
        logits = model(x)
        twin = copy.deepcopy(model)
        for parameter in model.parameters():
            parameter.zero_()
        assert torch.equal(twin.forward_features(x).logits, logits)


def test_models_build_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = build_model("timm:convnext_atto", 10, 3, (32, 32)).eval()
        features = model.forward_features(torch.empty(2, 3, 32, 32))
    assert features.logits.is_meta
    assert features.logits.shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("deit_tiny_patch16_224", (30, 30), "sides divisible by 16, not 30×30"),
        ("inception_v3", (32, 32), "cannot take 32×32 images; it takes 80×80"),
    ],
)
def test_a_size_that_a_model_cannot_take_is_refused(
    name: str, size: tuple[int, int], message: str
) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=message):
        build_model(f"timm:{name}", 10, 3, size)


def test_an_unknown_name_is_answered_with_the_nearest_and_the_list() -> None:
    message = r"did you mean 'resnet18'\? All of them: rkkd ls models timm"
    for ask in (check_model_name, lambda name: build_model(name, 10)):
        with pytest.raises(UserError, match=message):
            ask("timm:resnet_18")


def test_without_the_package_the_answer_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'rkkd\[timm\]'"):
        check_model_name("timm:resnet18")
