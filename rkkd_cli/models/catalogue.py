"""Models by name: those of the zoo, torchvision, timm and the user."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.models.external.options import NO_OPTIONS, build_with_options, check_options
from rkkd_cli.models.external.timm_models import check_timm_name, timm_model, timm_names
from rkkd_cli.models.external.torchvision_models import (
    check_torchvision_name,
    torchvision_model,
    torchvision_names,
)
from rkkd_cli.models.external.user_models import check_user_model, user_model
from rkkd_cli.models.features import Classifier
from rkkd_cli.models.zoo.blocks import BasicBlock, Bottleneck
from rkkd_cli.models.zoo.mobilenet_v2 import MobileNetV2
from rkkd_cli.models.zoo.resnet_cifar import ResNetCifar
from rkkd_cli.models.zoo.resnet_large import LargeResNet
from rkkd_cli.models.zoo.shufflenet_v1 import ShuffleNetV1
from rkkd_cli.models.zoo.shufflenet_v2 import ShuffleNetV2
from rkkd_cli.models.zoo.small import cnn2, digits_student, digits_teacher
from rkkd_cli.models.zoo.vgg import DEPTHS, VGG
from rkkd_cli.models.zoo.wide_resnet import WideResNet
from rkkd_cli.plugins import FILE_SUFFIX, names_in_file

CIFAR_DEPTHS = (8, 14, 20, 32, 44, 56, 110)
CIFAR_WIDTHS, CIFAR_X4_WIDTHS = (16, 16, 32, 64), (32, 64, 128, 256)

MODELS: dict[str, Callable[[int, int], Classifier]] = {
    "digits_teacher": digits_teacher,
    "digits_student": digits_student,
    "cnn2": cnn2,
    **{f"resnet{depth}": partial(ResNetCifar, depth, CIFAR_WIDTHS) for depth in CIFAR_DEPTHS},
    **{f"resnet{depth}x4": partial(ResNetCifar, depth, CIFAR_X4_WIDTHS) for depth in (8, 32)},
    "ResNet18": partial(LargeResNet, BasicBlock, (2, 2, 2, 2)),
    "ResNet34": partial(LargeResNet, BasicBlock, (3, 4, 6, 3)),
    "ResNet50": partial(LargeResNet, Bottleneck, (3, 4, 6, 3)),
    "wrn_16_1": partial(WideResNet, 16, 1),
    "wrn_16_2": partial(WideResNet, 16, 2),
    "wrn_40_1": partial(WideResNet, 40, 1),
    "wrn_40_2": partial(WideResNet, 40, 2),
    **{f"vgg{depth}": partial(VGG, depth) for depth in DEPTHS},
    "MobileNetV2": partial(MobileNetV2, 0.5),
    "MobileNetV2x2": partial(MobileNetV2, 1.0),
    "ShuffleV1": ShuffleNetV1,
    "ShuffleV2": ShuffleNetV2,
}

# The libraries whose models are named library:NAME, each with the function that lists its models.
LIBRARIES: dict[str, Callable[[], list[str]]] = {
    "torchvision": torchvision_names,
    "timm": timm_names,
}


def check_model_name(name: str, options: Mapping[str, Any] = NO_OPTIONS) -> None:
    """Raise UserError unless :func:`build_model` knows the name. Does not build the model.

    Of the options it is checked whether they may be given at all.
    """
    source, colon, rest = name.partition(":")
    check_options(name, options, is_zoo=name in MODELS, is_library=source in LIBRARIES)
    if colon and source == "torchvision":
        check_torchvision_name(rest)
    elif colon and source == "timm":
        check_timm_name(rest)
    elif colon:
        check_user_model(name, options)
    elif name.endswith(FILE_SUFFIX):
        made = [f"{name}:{made}" for made in names_in_file(Path(name).expanduser())]
        listed = " or ".join(made) or f"{name}:NAME"
        raise UserError(f"model {name} is a file; say what in it makes the model: {listed}")
    elif name not in MODELS:
        unknown = unknown_name("model", name, MODELS)
        raise UserError(f"{unknown}; a model of your own is named file.py:NAME")


def build_model(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    image_size: tuple[int, int] | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> Classifier:
    """Return a model with random weights, drawn from torch's global generator.

    Args:
        name: a model of the zoo (``MODELS``), ``torchvision:NAME``, ``timm:NAME``, or
            ``package.module:name`` or ``file.py:name`` for a function or class of the user, called
            by the names of its parameters (``num_classes``, ``in_channels``).
        num_classes: the number of logits.
        in_channels: the number of input channels.
        image_size: height and width, for models with positional embeddings of a fixed size, such as
            vision transformers. The zoo's models take any size.
        options: further arguments of the library's builder, or of the user's function, such as
            ``{"drop_path_rate": 0.1}``. The zoo's models have none.

    Raises:
        ValueError: ``num_classes`` or ``in_channels`` is below 1.
        UserError (a ValueError): the name is unknown (the message gives the nearest one), a
            library's model cannot take the image size, or the model cannot be built with the
            options.

    """
    if num_classes < 1 or in_channels < 1:
        raise ValueError(f"{name} needs at least 1 class and 1 input channel")
    is_library = name.partition(":")[0] in LIBRARIES
    check_options(name, options, is_zoo=name in MODELS, is_library=is_library)
    build = partial(_build, name, num_classes, in_channels)
    if options:
        return build_with_options(name, build, image_size, options)
    return build(image_size, options)


def _build(
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int] | None,
    options: Mapping[str, Any],
) -> Classifier:
    source, colon, rest = name.partition(":")
    if colon and source == "torchvision":
        return torchvision_model(rest, num_classes, in_channels, image_size, options)
    if colon and source == "timm":
        return timm_model(rest, num_classes, in_channels, image_size, options)
    if colon:
        return user_model(name, num_classes, in_channels, image_size, options)
    check_model_name(name)
    return MODELS[name](num_classes, in_channels)
