"""The zoo: ``forward(x)`` gives logits, ``forward_features(x)`` maps, pooled features and logits.

Shapes: x (B, in_channels, H, W); maps (B, D_l, H_l, W_l) from early to late; pooled (B, D);
logits (B, num_classes).
"""

from collections.abc import Callable

from torch import nn

from rkkd_cli.errors import unknown_name
from rkkd_cli.models.checkpoint import load_checkpoint
from rkkd_cli.models.features import Classifier, Features
from rkkd_cli.models.mobilenet_v2 import mobilenet_v2
from rkkd_cli.models.resnet_cifar import resnet_cifar
from rkkd_cli.models.resnet_large import resnet18, resnet34, resnet50
from rkkd_cli.models.shufflenet_v1 import shufflenet_v1
from rkkd_cli.models.shufflenet_v2 import shufflenet_v2
from rkkd_cli.models.small import cnn2, digits_student, digits_teacher
from rkkd_cli.models.vgg import vgg
from rkkd_cli.models.wide_resnet import wide_resnet

__all__ = [
    "MODELS",
    "Classifier",
    "Features",
    "build_model",
    "count_parameters",
    "load_checkpoint",
]

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


def build_model(
    name: str, num_classes: int, in_channels: int = 3, image_size: tuple[int, int] | None = None
) -> Classifier:
    """Return a freshly initialised model, drawn from torch's global generator.

    Raises ValueError for an unknown name (naming the nearest one) and for counts below 1.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    if num_classes < 1 or in_channels < 1:
        raise ValueError(f"{name} needs at least 1 class and 1 input channel")
    return MODELS[name](num_classes, in_channels)


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable and frozen parameters (buffers are not counted)."""
    return sum(parameter.numel() for parameter in model.parameters())
