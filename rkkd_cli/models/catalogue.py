"""Models by name: the zoo, torchvision's, timm's and the user's own."""

from collections.abc import Callable

from rkkd_cli.errors import unknown_name
from rkkd_cli.models.external.timm_models import check_timm_name, timm_model, timm_names
from rkkd_cli.models.external.torchvision_models import (
    check_torchvision_name,
    torchvision_model,
    torchvision_names,
)
from rkkd_cli.models.external.user_models import check_own_name, own_model
from rkkd_cli.models.features import Classifier
from rkkd_cli.models.zoo.mobilenet_v2 import mobilenet_v2
from rkkd_cli.models.zoo.resnet_cifar import resnet_cifar
from rkkd_cli.models.zoo.resnet_large import resnet18, resnet34, resnet50
from rkkd_cli.models.zoo.shufflenet_v1 import shufflenet_v1
from rkkd_cli.models.zoo.shufflenet_v2 import shufflenet_v2
from rkkd_cli.models.zoo.small import cnn2, digits_student, digits_teacher
from rkkd_cli.models.zoo.vgg import vgg
from rkkd_cli.models.zoo.wide_resnet import wide_resnet

NARROW, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)

MODELS: dict[str, Callable[[int, int], Classifier]] = {
    "digits_teacher": digits_teacher,
    "digits_student": digits_student,
    "cnn2": cnn2,
    "resnet8": lambda classes, channels: resnet_cifar(8, NARROW, classes, channels),
    "resnet14": lambda classes, channels: resnet_cifar(14, NARROW, classes, channels),
    "resnet20": lambda classes, channels: resnet_cifar(20, NARROW, classes, channels),
    "resnet32": lambda classes, channels: resnet_cifar(32, NARROW, classes, channels),
    "resnet44": lambda classes, channels: resnet_cifar(44, NARROW, classes, channels),
    "resnet56": lambda classes, channels: resnet_cifar(56, NARROW, classes, channels),
    "resnet110": lambda classes, channels: resnet_cifar(110, NARROW, classes, channels),
    "resnet8x4": lambda classes, channels: resnet_cifar(8, WIDE, classes, channels),
    "resnet32x4": lambda classes, channels: resnet_cifar(32, WIDE, classes, channels),
    "ResNet18": resnet18,
    "ResNet34": resnet34,
    "ResNet50": resnet50,
    "wrn_16_1": lambda classes, channels: wide_resnet(16, 1, classes, channels),
    "wrn_16_2": lambda classes, channels: wide_resnet(16, 2, classes, channels),
    "wrn_40_1": lambda classes, channels: wide_resnet(40, 1, classes, channels),
    "wrn_40_2": lambda classes, channels: wide_resnet(40, 2, classes, channels),
    "vgg8": lambda classes, channels: vgg(8, classes, channels),
    "vgg11": lambda classes, channels: vgg(11, classes, channels),
    "vgg13": lambda classes, channels: vgg(13, classes, channels),
    "vgg16": lambda classes, channels: vgg(16, classes, channels),
    "vgg19": lambda classes, channels: vgg(19, classes, channels),
    "MobileNetV2": lambda classes, channels: mobilenet_v2(0.5, classes, channels),
    "MobileNetV2x2": lambda classes, channels: mobilenet_v2(1.0, classes, channels),
    "ShuffleV1": shufflenet_v1,
    "ShuffleV2": shufflenet_v2,
}


# The libraries whose models are named library:NAME, and how their names are listed.
LIBRARIES: dict[str, Callable[[], list[str]]] = {
    "torchvision": torchvision_names,
    "timm": timm_names,
}


def check_model_name(name: str) -> None:
    """Raise UserError unless :func:`build_model` knows the name. Builds nothing."""
    source, colon, rest = name.partition(":")
    if colon and source == "torchvision":
        check_torchvision_name(rest)
    elif colon and source == "timm":
        check_timm_name(rest)
    elif colon:
        check_own_name(name)
    elif name not in MODELS:
        raise unknown_name("model", name, MODELS)


def build_model(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    image_size: tuple[int, int] | None = None,
) -> Classifier:
    """Return a freshly initialised model, drawn from torch's global generator.

    ``name`` is one of the zoo (:data:`MODELS`), ``torchvision:NAME``, ``timm:NAME``, or
    ``package.module:name`` for a function ``(num_classes, in_channels)`` of the user's own.
    ``image_size`` (height, width) is built into models with a fixed number of positions, such as
    vision transformers; the zoo's take any.

    Raises ValueError (UserError) for an unknown name (naming the nearest one), for counts below 1,
    and for a size that a library's model cannot take.
    """
    if num_classes < 1 or in_channels < 1:
        raise ValueError(f"{name} needs at least 1 class and 1 input channel")
    source, colon, rest = name.partition(":")
    if colon and source == "torchvision":
        return torchvision_model(rest, num_classes, in_channels, image_size)
    if colon and source == "timm":
        return timm_model(rest, num_classes, in_channels, image_size)
    if colon:
        return own_model(name, num_classes, in_channels, image_size)
    check_model_name(name)
    return MODELS[name](num_classes, in_channels)
