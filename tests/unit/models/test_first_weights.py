"""Weights to begin with: of files, and of libraries, from caches as the libraries keep them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from weights import same

from rkkd_cli.errors import RunError, UserError
from rkkd_cli.models import build_model
from rkkd_cli.models.first_weights import (
    LoadedWeights,
    fetch_weights,
    find_weights,
    load_first_weights,
)

timm = pytest.importorskip("timm")
hub = pytest.importorskip("huggingface_hub")

VIT, VIT_TAG, SIDE = "test_vit", "r160_in1k", 160


def loaded(
    name: str, weights: str, classes: int, side: int = 32
) -> tuple[nn.Module, LoadedWeights]:
    torch.manual_seed(1)
    model = build_model(name, classes, 3, (side, side))
    source = fetch_weights(find_weights(name, weights))
    return model, load_first_weights(model, source, classes, 3, (side, side))


def body(model: nn.Module, head: str) -> dict[str, torch.Tensor]:
    return {k: v for k, v in model.state_dict().items() if not k.startswith(f"{head}.")}


@pytest.fixture
def file(tmp_path: Path) -> Callable[[nn.Module], str]:
    def save(model: nn.Module) -> str:
        torch.save(model.state_dict(), tmp_path / "w.pt")
        return str(tmp_path / "w.pt")

    return save


def test_a_head_of_other_classes_stays_the_models_own(file: Callable[[nn.Module], str]) -> None:
    torch.manual_seed(0)
    trained = build_model("resnet8", 100)
    model, weights = loaded("resnet8", file(trained), 10)
    torch.manual_seed(1)
    fresh = build_model("resnet8", 10)
    assert same(body(model, "fc"), body(trained, "fc"))
    assert torch.equal(model.get_parameter("fc.weight"), fresh.get_parameter("fc.weight"))
    assert weights.replaced_head == ("fc", 100, 10)
    assert "head (fc) of 100 classes is replaced by one of 10" in str(weights.replaced_head)


def test_weights_that_fit_are_all_taken(file: Callable[[nn.Module], str]) -> None:
    torch.manual_seed(0)
    trained = build_model("resnet8", 10)
    model, weights = loaded("resnet8", file(trained), 10)
    assert same(model.state_dict(), trained.state_dict())
    assert weights.replaced_head is None


def test_a_file_without_a_head_leaves_that_to_the_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = build_model("resnet8", 10)
    torch.save(body(trained, "fc"), tmp_path / "w.pt")
    model, weights = loaded("resnet8", str(tmp_path / "w.pt"), 10)
    assert same(body(model, "fc"), body(trained, "fc"))
    assert weights.replaced_head == ("fc", 0, 10)


@pytest.mark.parametrize(
    ("other", "channels", "part"),
    [
        ("resnet14", 3, r"unexpected layer1\.1"),
        ("resnet8", 1, r"conv1\.weight is \(16, 1, 3, 3\), the model's \(16, 3, 3, 3\)"),
        ("vgg8", 3, r"missing conv1\.weight"),
    ],
)
def test_all_else_must_fit_and_is_named(
    other: str, channels: int, part: str, file: Callable[[nn.Module], str]
) -> None:
    model = build_model("resnet8", 10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    source = find_weights("resnet8", file(build_model(other, 100, channels)))
    with pytest.raises(UserError, match=part):
        load_first_weights(model, source, 10, 3, (32, 32))
    assert same(before, model.state_dict())


def test_half_a_head_is_no_head(tmp_path: Path) -> None:
    state = build_model("resnet8", 10).state_dict()
    del state["fc.bias"]
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"missing fc\.bias"):
        loaded("resnet8", str(tmp_path / "w.pt"), 10)


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for scheme in ("http", "https"):  # where nobody listens: no test may download
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("name", ["pretrained", "IMAGENET1K_V1"])
def test_torchvisions_weights_are_those_of_its_cache(name: str, torch_home: Path) -> None:
    torch.manual_seed(0)
    network = models.squeezenet1_1()
    torch.save(network.state_dict(), torch_home / "squeezenet1_1-b8a52dc0.pth")
    model, weights = loaded("torchvision:squeezenet1_1", name, 7)
    head = "classifier.1"
    assert same(body(model, head), body(network, head))
    assert weights.replaced_head == (head, 1000, 7)
    assert weights.source.label == "IMAGENET1K_V1"
    assert weights.source.origin.startswith("https://download.pytorch.org/models/squeezenet1_1-")


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet50", "IMAGENET1K_V2"),
        ("vit_h_14", "IMAGENET1K_SWAG_E2E_V1"),
        ("googlenet", "pretrained"),
    ],
)
def test_size_and_normalisation_are_torchvisions(name: str, weights: str) -> None:
    published = find_weights(f"torchvision:{name}", weights).published
    known = models.get_model_weights(name)
    transforms = known["DEFAULT" if weights == "pretrained" else weights].transforms()
    assert published is not None
    assert [*published.size] == 2 * transforms.crop_size
    assert ([*published.mean], [*published.std]) == (transforms.mean, transforms.std)
    assert published.classes == 1000


def test_without_a_network_the_address_and_the_place_are_named(torch_home: Path) -> None:
    source = find_weights("torchvision:squeezenet1_1", "pretrained")
    assert not source.is_here
    with pytest.raises(RunError) as raised:
        fetch_weights(source)
    assert f"cannot download {source.origin}: " in str(raised.value)
    assert str(raised.value).endswith(f"put it at {torch_home / 'squeezenet1_1-b8a52dc0.pth'}")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def put_into(hub_cache: Path, repository: str, network: nn.Module) -> Path:
    """Write a network as the hub's client keeps one that it has downloaded."""
    folder = hub_cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc123")
    (folder / "snapshots" / "abc123").mkdir(parents=True)
    save_file(network.state_dict(), folder / "snapshots" / "abc123" / "model.safetensors")
    return folder / "snapshots" / "abc123"


def config_of(classes: int) -> str:
    cfg = '{"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "input_size": [3, 160, 160], '
    cfg += f'"fixed_input_size": true, "num_classes": {classes}, "classifier": "head", '
    cfg += '"first_conv": "patch_embed.proj"}'
    return f'{{"architecture": "{VIT}", "num_classes": {classes}, "pretrained_cfg": {cfg}}}'


@pytest.mark.parametrize(
    ("name", "weights"), [(VIT, VIT_TAG), (VIT, "pretrained"), (f"{VIT}.{VIT_TAG}", "pretrained")]
)
def test_timms_weights_are_those_of_the_hubs_cache(
    name: str, weights: str, hub_cache: Path
) -> None:
    torch.manual_seed(0)
    network = timm.create_model(VIT)
    put_into(hub_cache, f"timm/{VIT}.{VIT_TAG}", network)
    model, began = loaded(f"timm:{name}", weights, 7, SIDE)
    assert same(body(model, "head"), body(network, "head"))
    assert began.replaced_head == ("head", 1000, 7)
    assert began.source.origin.endswith(f"timm/{VIT}.{VIT_TAG}/resolve/main/model.safetensors")


def test_timm_fits_positional_embeddings_to_another_size(hub_cache: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model(VIT)
    folder = put_into(hub_cache, f"timm/{VIT}.{VIT_TAG}", network)
    model, _ = loaded(f"timm:{VIT}", VIT_TAG, 7, 64)
    own = timm.create_model(
        VIT, pretrained=True, img_size=64,
        pretrained_cfg_overlay={"file": str(folder / "model.safetensors")},
    )  # fmt: skip
    assert same(body(model, "head"), body(own, "head"))


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("hf-hub:me/mine", "pretrained"),
        (VIT, "hf-hub:me/mine"),
        ("hf-hub:me/mine@main", "pretrained"),
    ],
)
def test_a_model_of_the_hub_brings_its_own_configuration(
    name: str, weights: str, hub_cache: Path
) -> None:
    torch.manual_seed(0)
    network = timm.create_model(VIT, num_classes=5)
    (put_into(hub_cache, "me/mine", network) / "config.json").write_text(config_of(5))
    model, began = loaded(f"timm:{name}", weights, 5, SIDE)
    assert same(model.state_dict(), network.state_dict())
    published = began.source.published
    assert published is not None
    assert (published.size, published.mean) == ((160, 160), (0.1, 0.2, 0.3))


def test_weights_of_the_hub_of_another_architecture_are_refused(hub_cache: Path) -> None:
    folder = put_into(hub_cache, "me/mine", timm.create_model(VIT, num_classes=5))
    (folder / "config.json").write_text(config_of(5))
    with pytest.raises(UserError, match="has weights of timm:test_vit, not of timm:resnet18"):
        find_weights("timm:resnet18", "hf-hub:me/mine")
    odd = config_of(5).replace("[3, 160, 160]", "[3]")
    for text in ("{}", "[]", "no", '{"architecture": "os.system"}', odd):
        (folder / "config.json").write_text(text)
        with pytest.raises(UserError, match="hf-hub:me/mine is no model of timm"):
            build_model("timm:hf-hub:me/mine", 5)


def test_a_configuration_that_timm_does_not_take_is_refused(hub_cache: Path) -> None:
    folder = put_into(hub_cache, "me/mine", timm.create_model(VIT, num_classes=5))
    for option in ('"colour": 3', '"pretrained_cfg_overlay": {}', '"depth": "x"'):
        text = config_of(5).replace(
            '"num_classes"', f'"model_args": {{{option}}}, "num_classes"', 1
        )
        (folder / "config.json").write_text(text)
        with pytest.raises(UserError, match="timm cannot build hf-hub:me/mine"):
            build_model("timm:hf-hub:me/mine", 5)


def test_a_file_put_where_the_message_says_is_found(hub_cache: Path) -> None:
    source = find_weights(f"timm:{VIT}", VIT_TAG)
    with pytest.raises(RunError) as raised:
        fetch_weights(source)
    assert f"cannot download {source.origin}: " in str(raised.value)
    path = Path(str(raised.value).rpartition("put it at ")[2])
    path.parent.mkdir(parents=True)
    save_file(timm.create_model(VIT).state_dict(), path)
    assert find_weights(f"timm:{VIT}", VIT_TAG).path == path
    assert loaded(f"timm:{VIT}", VIT_TAG, 7, SIDE)[1].source.path == path


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", VIT, "vit_small_patch14_dinov2.lvd142m"])
def test_size_and_normalisation_are_timms(name: str) -> None:
    published = find_weights(f"timm:{name}", "pretrained").published
    with torch.device("meta"):
        config = timm.data.resolve_model_data_config(timm.create_model(name))
    assert published is not None
    images = (3, *published.size), published.mean, published.std
    assert images == (config["input_size"], config["mean"], config["std"])


@pytest.mark.parametrize(
    ("model", "weights", "part"),
    [
        ("resnet8", "pretrained", "there are no published weights of resnet8; give a file"),
        ("torchvision:resnet18", "IMAGENET1K_V2", "did you mean 'IMAGENET1K_V1'"),
        ("timm:resnet18", "a1_in2k", "did you mean 'a1_in1k'"),
        ("timm:resnet18", "x.pth", r"no such checkpoint file: x\.pth"),
        ("timm:resnet81", "pretrained", "unknown timm model 'resnet81'"),
        ("timm:resnet18", "hf-hub:no name", "names no repository"),
    ],
)
def test_what_is_no_weights_is_one_sentence(model: str, weights: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        find_weights(model, weights)
