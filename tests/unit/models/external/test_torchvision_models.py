"""torchvision's classifiers as models: their own logits and names, with features."""

import copy
import pickle

import pytest
import torch
import torchvision
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from rkkd_cli.errors import UserError
from rkkd_cli.models import build_model, check_model_name, feature_shapes
from rkkd_cli.models.external.torchvision_models import torchvision_names

# Name, side of the images, whether the classifier reads the average of a map.
MODELS = [
    ("resnet18", 32, True),
    ("mobilenet_v3_small", 32, True),
    ("shufflenet_v2_x0_5", 32, True),
    ("mnasnet0_5", 32, True),
    ("efficientnet_b0", 32, True),
    ("convnext_tiny", 32, True),
    ("densenet121", 32, True),
    ("googlenet", 32, True),
    ("regnet_y_400mf", 32, True),
    ("swin_t", 32, True),
    ("squeezenet1_1", 32, False),
    ("vit_b_16", 32, False),
]
# More than 100 million parameters, or slow to build on a CPU, as torchvision's RegNets must be.
GIANTS = ("regnet_y_128gf", "regnet_y_32gf", "regnet_x_32gf", "regnet_y_16gf", "vit_h_14")


def images(channels: int, side: int) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, side, side, generator=draws)


@pytest.mark.parametrize(("name", "side", "averages"), MODELS)
def test_logits_names_and_features(name: str, side: int, averages: bool) -> None:
    model = build_model(f"torchvision:{name}", 10, 1, (side, side)).eval()
    x = images(1, side)
    with torch.no_grad():
        features = model.forward_features(x)
        assert torch.equal(features.logits, model(x))
        assert features.logits.shape == (2, 10)
        assert (features.final is not None) == averages
        if features.final is not None:
            assert torch.equal(model.classify(features.final), features.logits)
    options: dict[str, object] = (
        {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    )
    if name == "vit_b_16":
        options = {"image_size": side}
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        library = torchvision.models.get_model(name, num_classes=10, **options)
    assert list(model.state_dict()) == list(library.state_dict())
    assert [key for key, _ in model.named_parameters()] == [
        k for k, _ in library.named_parameters()
    ]
    areas = [one.shape[2] * one.shape[3] for one in features.maps]
    assert len(areas) >= 4
    assert areas == sorted(areas, reverse=True)
    assert all(one.ndim == 4 for one in features.maps)
    shapes = feature_shapes(model, 1, (side, side))
    assert [tuple(s) for s in shapes.maps] == [tuple(one.shape[1:]) for one in features.maps]


def test_weights_of_the_library_load_and_give_its_logits() -> None:
    library = torchvision.models.resnet18(num_classes=10).eval()
    model = build_model("torchvision:resnet18", 10).eval()
    model.load_state_dict(library.state_dict(), strict=True)
    x = images(3, 32)
    with torch.no_grad():
        assert torch.equal(model(x), library(x))
        assert torch.equal(model.forward_features(x).pooled, library.layer4(
            library.layer3(library.layer2(library.layer1(library.maxpool(library.relu(
                library.bn1(library.conv1(x)))))))).mean(dim=(2, 3)))  # fmt: skip


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
@pytest.mark.parametrize("name", ["resnet18", "swin_t", "mobilenet_v3_small"])
def test_gradients_reach_the_first_layer(name: str, training: bool) -> None:
    model = build_model(f"torchvision:{name}", 10, 3, (64, 64)).train(training)
    features = model.forward_features(images(3, 64))
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


def test_channels_last_copies_and_pickles_give_the_same_logits() -> None:
    model = build_model("torchvision:mobilenet_v3_small", 10, 3, (32, 32)).eval()
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


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_b_16", (30, 30), "needs square images with sides divisible by 16, not 30×30"),
        ("vit_b_16", (32, 64), "needs square images with sides divisible by 16, not 32×64"),
        ("maxvit_t", (32, 32), "sides divisible by 224, not 32×32"),
        ("alexnet", (32, 32), "cannot take 32×32 images; it takes 64×64"),
    ],
)
def test_a_size_that_a_model_cannot_take_is_refused(
    name: str, size: tuple[int, int], message: str
) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=message):
        build_model(f"torchvision:{name}", 10, 3, size)


def test_an_unknown_name_is_answered_with_the_nearest_and_the_list() -> None:
    message = r"did you mean 'resnet18'\? All of them: rkkd ls models torchvision"
    for ask in (check_model_name, lambda name: build_model(name, 10)):
        with pytest.raises(UserError, match=message):
            ask("torchvision:resnet19")


def test_known_names_pass_without_building() -> None:
    check_model_name("torchvision:regnet_y_128gf")
    check_model_name("resnet8")


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in torchvision_names() if n not in GIANTS])
def test_every_model_has_maps_and_pooled_features(name: str) -> None:
    with torch.device("meta"):
        model = build_model(f"torchvision:{name}", 10, 1).eval()
        shapes = feature_shapes(model, 1, (224, 224))
    assert len(shapes.maps) >= 4
    areas = [shape[1] * shape[2] for shape in shapes.maps]
    assert areas == sorted(areas, reverse=True)
    head = [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)][-1]
    width = head.in_features if isinstance(head, torch.nn.Linear) else head.in_channels
    assert shapes.pooled == width
    unaveraged = ("alexnet", "vgg", "vit", "squeezenet")
    assert (shapes.final is None) == name.startswith(unaveraged)
