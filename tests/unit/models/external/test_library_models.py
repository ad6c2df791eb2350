"""torchvision's and timm's classifiers as models: their own logits and names, with features."""

import copy
import pickle
import re
import sys
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from rkkd_cli.errors import UserError
from rkkd_cli.installation import install_command
from rkkd_cli.models import Classifier, build_model, check_model_name, feature_shapes
from rkkd_cli.models.external.torchvision_models import names_by_weights, torchvision_names

# Name, side of the images, number of maps, whether the classifier reads the average of a map.
MODELS = [
    ("torchvision:resnet18", 32, 5, True),
    ("torchvision:mobilenet_v3_small", 32, 5, True),
    ("torchvision:shufflenet_v2_x0_5", 32, 5, True),
    ("torchvision:mnasnet0_5", 32, 5, True),
    ("torchvision:efficientnet_b0", 32, 5, True),
    ("torchvision:convnext_tiny", 32, 4, True),
    ("torchvision:densenet121", 32, 5, True),
    ("torchvision:googlenet", 32, 5, True),
    ("torchvision:regnet_y_400mf", 32, 5, True),
    ("torchvision:swin_t", 32, 4, True),
    ("torchvision:squeezenet1_1", 32, 4, False),
    ("torchvision:vit_b_16", 32, 4, False),
    ("timm:resnet10t", 32, 5, True),
    ("timm:deit_tiny_patch16_224", 32, 4, False),
    ("timm:deit_tiny_distilled_patch16_224", 64, 4, False),
    ("timm:mobilenetv3_small_050", 32, 5, True),
    ("timm:convnext_atto", 32, 4, True),
    ("timm:swin_tiny_patch4_window7_224", 64, 4, True),
    ("timm:levit_128s", 224, 3, False),
    ("timm:crossvit_9_240", 240, 0, False),
]
# Options with which torchvision builds what stands for its model here.
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "vit_b_16": {"image_size": 32},
}
# More than 100 million parameters, or slow to build on a CPU, as torchvision's RegNets must be.
GIANTS = ("regnet_y_128gf", "regnet_y_32gf", "regnet_x_32gf", "regnet_y_16gf", "vit_h_14")


def built(
    name: str, classes: int = 10, channels: int = 3, size: tuple[int, int] | None = None
) -> Classifier:
    """Build a model, if its library is installed."""
    pytest.importorskip(name.partition(":")[0])
    return build_model(name, classes, channels, size)


def images(channels: int, side: int) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, side, side, generator=draws)


@pytest.mark.parametrize(("name", "side", "count", "averages"), MODELS)
def test_logits_names_and_features(name: str, side: int, count: int, averages: bool) -> None:
    model = built(name, 10, 1, (side, side)).eval()
    library = model.library
    assert isinstance(library, torch.nn.Module)
    x = images(1, side)
    with torch.no_grad():
        features = model.forward_features(x)
        assert torch.equal(features.logits, library(x))
        assert torch.equal(features.logits, model(x))
        assert features.logits.shape == (2, 10)
        assert (features.final is not None) == averages
        if features.final is not None:
            assert torch.equal(model.classify(features.final), features.logits)
    assert list(model.state_dict()) == list(library.state_dict())
    assert [k for k, _ in model.named_parameters()] == [k for k, _ in library.named_parameters()]
    areas = [one.shape[2] * one.shape[3] for one in features.maps]
    assert len(areas) == count
    assert areas == sorted(areas, reverse=True)
    assert all(one.ndim == 4 for one in features.maps)
    shapes = feature_shapes(model, 1, (side, side))
    assert [tuple(s) for s in shapes.maps] == [tuple(one.shape[1:]) for one in features.maps]
    assert shapes.pooled == features.pooled.shape[1]


@pytest.mark.parametrize("name", [n for n, *_ in MODELS if n.startswith("torchvision:")])
def test_names_are_those_of_a_model_that_torchvision_builds(name: str) -> None:
    own = name.partition(":")[2]
    with torch.device("cpu" if own.startswith("regnet") else "meta"):
        model = build_model(name, 10, 1, (32, 32))
        library = torchvision.models.get_model(own, num_classes=10, **OPTIONS.get(own, {}))
    assert list(model.state_dict()) == list(library.state_dict())
    assert [k for k, _ in model.named_parameters()] == [k for k, _ in library.named_parameters()]


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet10t"])
def test_weights_of_the_library_load_and_give_its_logits(name: str) -> None:
    kind, _, own = name.partition(":")
    package = pytest.importorskip(kind)
    create = package.create_model if kind == "timm" else torchvision.models.get_model
    library = create(own, num_classes=10).eval()
    model = build_model(name, 10).eval()
    model.load_state_dict(library.state_dict(), strict=True)
    x = images(3, 32)
    with torch.no_grad():
        assert torch.equal(model(x), library(x))
        if kind == "torchvision":
            out = library.maxpool(library.relu(library.bn1(library.conv1(x))))
            for layer in (library.layer1, library.layer2, library.layer3, library.layer4):
                out = layer(out)
            assert torch.equal(model.forward_features(x).pooled, out.mean(dim=(2, 3)))


def test_three_channels_draw_what_the_library_draws() -> None:
    torch.manual_seed(3)
    library = torchvision.models.mobilenet_v3_small(num_classes=5)
    after = torch.rand(1)
    torch.manual_seed(3)
    model = build_model("torchvision:mobilenet_v3_small", 5, 3, (32, 32))
    assert torch.equal(torch.rand(1), after)
    for key, tensor in library.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor)


def test_another_number_of_channels_keeps_the_spread_of_the_stem() -> None:
    torch.manual_seed(0)
    usual, grey = (build_model("torchvision:resnet18", 10, c).state_dict() for c in (3, 1))
    assert grey["conv1.weight"].shape == (64, 1, 7, 7)
    ratio = grey["conv1.weight"].std() / usual["conv1.weight"].std()
    assert 0.9 < ratio < 1.1


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("torchvision:resnet18", 64),
        ("torchvision:swin_t", 64),
        ("torchvision:mobilenet_v3_small", 64),
        ("timm:resnet10t", 32),
        ("timm:deit_tiny_patch16_224", 32),
    ],
)
def test_gradients_reach_the_first_layer(name: str, side: int, training: bool) -> None:
    model = built(name, 10, 3, (side, side)).train(training)
    features = model.forward_features(images(3, side))
    loss = features.maps[-1].square().sum() + features.pooled.square().sum() + features.logits.sum()
    (first,) = torch.autograd.grad(loss, [next(iter(model.parameters()))])
    assert first.abs().sum() > 0


def test_the_mode_reaches_every_module_and_a_dry_run_leaves_it() -> None:
    model = build_model("torchvision:mobilenet_v3_small", 10, 3, (32, 32))
    assert model.training
    assert all(module.training for module in model.modules())
    model.eval()
    model.get_submodule("features").train()
    feature_shapes(model, 3, (32, 32))
    assert not model.training
    assert model.get_submodule("features").training
    model.eval()
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v3_small", "timm:resnet10t"])
def test_channels_last_copies_and_pickles_give_the_same_logits(name: str) -> None:
    model = built(name, 10, 3, (32, 32)).eval()
    x = images(3, 32)
    with torch.no_grad():
        logits = model(x)
        twin = copy.deepcopy(model)
        again = pickle.loads(pickle.dumps(model))
        for parameter in model.parameters():
            parameter.zero_()
        assert torch.equal(twin.forward_features(x).logits, logits)
        assert torch.equal(again.forward_features(x).logits, logits)
        twin.to(memory_format=torch.channels_last)
        found = twin(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-6)


def test_a_step_of_an_optimiser_reaches_the_logits() -> None:
    model = build_model("torchvision:resnet18", 4, 3, (32, 32)).eval()
    x = images(3, 32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model(x)
    before.square().sum().backward()
    optimizer.step()
    assert not torch.equal(model.forward_features(x).logits, before)


def test_two_models_run_in_one_vectorised_call() -> None:
    models = [build_model("torchvision:resnet18", 4, 3, (32, 32)).eval() for _ in range(2)]
    parameters, buffers = stack_module_state([*models])
    x = torch.stack([images(3, 32), images(3, 32)])

    def one(parameters: object, buffers: object, x: Tensor) -> Tensor:
        logits: Tensor = functional_call(models[0], (parameters, buffers), (x,))  # type: ignore[arg-type]
        return logits

    with torch.no_grad():
        found = vmap(one)(parameters, buffers, x)
        expected = torch.stack([model(y) for model, y in zip(models, x, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_models_build_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = built("timm:convnext_atto", 10, 3, (32, 32)).eval()
        features = model.forward_features(torch.empty(2, 3, 32, 32))
    assert features.logits.is_meta
    assert features.logits.shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("torchvision:vit_b_16", (30, 30), r"needs square images .* divisible by 16, not 30×30"),
        ("torchvision:vit_b_16", (32, 64), r"needs square images .* divisible by 16, not 32×64"),
        ("torchvision:maxvit_t", (32, 32), "sides divisible by 224, not 32×32"),
        ("torchvision:alexnet", (32, 32), "cannot take 32×32 images; it takes 64×64"),
        ("timm:deit_tiny_patch16_224", (30, 30), "sides divisible by 16, not 30×30"),
        ("timm:inception_v3", (32, 32), "cannot take 32×32 images; it takes 80×80"),
    ],
)
def test_a_size_that_a_model_cannot_take_is_refused(
    name: str, size: tuple[int, int], message: str
) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=message):
        built(name, 10, 3, size)


@pytest.mark.parametrize("wrong", ["torchvision:resnet19", "timm:resnet_18"])
def test_an_unknown_name_is_answered_with_the_nearest_and_the_list(wrong: str) -> None:
    library = wrong.partition(":")[0]
    message = rf"did you mean 'resnet18'\? All of them: rkkd ls models {library}"
    for ask in (check_model_name, built):
        with pytest.raises(UserError, match=message):
            ask(wrong)


def test_known_names_pass_without_building() -> None:
    check_model_name("torchvision:regnet_y_128gf")
    check_model_name("resnet8")


def test_without_the_package_the_answer_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=re.escape(install_command("timm"))):
        check_model_name("timm:resnet18")


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in torchvision_names() if n not in GIANTS])
def test_every_model_has_maps_and_pooled_features(name: str) -> None:
    with torch.device("meta"):
        model = build_model(f"torchvision:{name}", 10, 1).eval()
        shapes = feature_shapes(model, 1, (224, 224))
    assert name in names_by_weights(model.state_dict())
    assert len(shapes.maps) >= 4
    areas = [shape[1] * shape[2] for shape in shapes.maps]
    assert areas == sorted(areas, reverse=True)
    head = [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)][-1]
    width = head.in_features if isinstance(head, torch.nn.Linear) else head.in_channels
    assert shapes.pooled == width
    unaveraged = ("alexnet", "vgg", "vit", "squeezenet")
    assert (shapes.final is None) == name.startswith(unaveraged)
