"""``torchvision:NAME``: torchvision's classifiers with random weights, under its own names."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from rkkd_cli.errors import UserError, unknown_among_many
from rkkd_cli.models.external.adapt import build_on_default_device, check_size, replace_stem
from rkkd_cli.models.external.feature_hooks import FeaturePlan, HookedModel, MapHook
from rkkd_cli.models.external.feature_plan import evenly_spaced, make_plan, trace
from rkkd_cli.models.external.options import NO_OPTIONS
from rkkd_cli.models.features import Classifier

# The size at which stages are found: every model takes it, and no stage shrinks to one pixel.
DEFAULT_SIZE = (224, 224)
PREFIX = "torchvision:"
# Without auxiliary heads, and with the initialisation whose absence these two models warn about.
WITHOUT_AUXILIARY = {"aux_logits": False, "init_weights": True}
MAXVIT_STRIDE = 7 * 32  # windows of 7×7 after five halvings

# What the names of the weights of a family have in common, and how its models are called.
FAMILIES = {
    "layer1.0.conv1.weight": ("resnet", "resnext", "wide_resnet"),
    "features.1.conv.0.0.weight": ("mobilenet_v2",),
    "features.1.block.0.0.weight": ("mobilenet_v3",),
    "features.1.0.block.0.0.weight": ("efficientnet",),
    "features.1.0.block.0.weight": ("convnext",),
    "features.1.0.attn.": ("swin",),
    "features.denseblock1.": ("densenet",),
    "squeeze.weight": ("squeezenet",),
    "classifier.6.weight": ("alexnet", "vgg"),
    "inception3a.": ("googlenet",),
    "Mixed_5b.": ("inception",),
    "layers.MBconv": ("maxvit",),
    "layers.8.0.layers.": ("mnasnet",),
    "trunk_output.": ("regnet",),
    "stage2.0.branch": ("shufflenet",),
    "encoder.layers.encoder_layer_": ("vit",),
}


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classification models."""
    from torchvision import models

    return list(models.list_models(module=models))


def names_by_weights(keys: Iterable[str]) -> list[str]:
    """Return the models of the families to which weights with these names may belong."""
    keys = list(keys)
    marks = [mark for mark in FAMILIES if any(mark in key for key in keys)]
    starts = tuple(start for mark in marks for start in FAMILIES[mark])
    return [name for name in torchvision_names() if name.startswith(starts)] if starts else []


def check_torchvision_name(name: str) -> None:
    """Raise UserError unless ``name`` (without its prefix) is a torchvision classifier."""
    names = torchvision_names()
    if name not in names:
        raise unknown_among_many("torchvision model", name, names, "rkkd ls models torchvision")


def torchvision_model(
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int] | None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> Classifier:
    """Return a torchvision classifier with random weights, initialised by torchvision.

    ``image_size`` (height, width) is checked for every model. ViT and MaxViT are built for it (224
    without it). State dicts are torchvision's, so its files load. GoogLeNet and Inception have no
    auxiliary heads here; their files do.

    Raises UserError for an unknown name or a size that the model cannot take.
    """
    model = torchvision_network(name, num_classes, in_channels, image_size, options)
    arguments = _arguments(name, image_size)
    fixed_size = "image_size" in arguments or "input_size" in arguments
    if image_size is not None and not fixed_size:
        check_size(PREFIX + name, model, in_channels, image_size)
    size = image_size if fixed_size and image_size is not None else DEFAULT_SIZE
    plan = make_plan(model, trace(model, (2, in_channels, *size)), size)
    assert plan is not None, "every torchvision classifier ends in a linear layer or convolution"
    return HookedModel(model, plan=_use_transformer_blocks(plan, model))


def torchvision_network(
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int] | None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> nn.Module:
    """Return torchvision's own module for :func:`torchvision_model`."""
    check_torchvision_name(name)
    from torchvision import models

    arguments = {**options, **_arguments(name, image_size), "num_classes": num_classes}
    model: nn.Module = build_on_default_device(
        lambda: models.get_model(name, weights=None, **arguments)
    )
    replace_stem(model, in_channels)
    return model


def _arguments(name: str, image_size: tuple[int, int] | None) -> dict[str, Any]:
    if name in ("googlenet", "inception_v3"):
        return WITHOUT_AUXILIARY
    size = image_size or DEFAULT_SIZE
    if name.startswith("vit_"):
        patch = int(name.rsplit("_", 1)[1])
        if size[0] != size[1] or size[0] % patch:
            raise _stride_error(name, "square images", patch, size)
        return {"image_size": size[0]}
    if name.startswith("maxvit_"):
        if any(side % MAXVIT_STRIDE for side in size):
            raise _stride_error(name, "images", MAXVIT_STRIDE, size)
        return {"input_size": size}
    return {}


def _stride_error(name: str, images: str, stride: int, size: tuple[int, int]) -> UserError:
    return UserError(
        f"model {PREFIX}{name} needs {images} with sides divisible by {stride}, "
        f"not {size[0]}×{size[1]}"
    )


def _use_transformer_blocks(plan: FeaturePlan, model: nn.Module) -> FeaturePlan:
    """Plan maps from the tokens of a vision transformer's blocks; other models keep their plan.

    Without a final map: the classifier reads only the class token.
    """
    from torchvision.models import VisionTransformer

    if not isinstance(model, VisionTransformer):
        return plan
    names = [f"encoder.layers.{name}" for name, _ in model.encoder.layers.named_children()]
    maps = tuple(MapHook(names[index], "tokens") for index in evenly_spaced(len(names)))
    return FeaturePlan(maps, plan.head)
