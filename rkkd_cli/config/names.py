"""Names that an experiment may use, with what `rkkd ls` says of them, known without torch.

The things themselves are in ``models/``, ``losses/`` and ``data/``; a test compares the names.
"""

import re
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

LIBRARIES = ("torchvision", "timm")
# A library's function that returns a model: its decorator stands some lines above it.
REGISTERED = re.compile(r"^@register_model.*\n(?:[@ )].*\n)*def (\w+)", re.MULTILINE)

# The zoo's models with their parameters, for 3 channels and 100 classes.
MODELS: dict[str, int] = {
    "digits_teacher": 106_372,
    "digits_student": 1_320,
    "cnn2": 8_436,
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "ResNet18": 11_220_132,
    "ResNet34": 21_328_292,
    "ResNet50": 23_705_252,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg11": 9_277_284,
    "vgg13": 9_462_180,
    "vgg16": 14_774_436,
    "vgg19": 20_086_692,
    "MobileNetV2": 812_836,
    "MobileNetV2x2": 2_353_060,
    "ShuffleV1": 949_258,
    "ShuffleV2": 1_355_528,
}

SURROGATES: dict[str, str] = {
    "tanh": "φ(x) = tanh x: p = φ(kΔt)·φ(kΔs), slope = φ(kΔt)·k·(1 − φ(kΔs)²).",
    "softsign": "φ(x) = x / (1 + |x|): φ′(x) = 1 / (1 + |x|)².",
    "arctan": "φ(x) = 2/π · arctan x: φ′(x) = 2/π / (1 + x²).",
    "tanh_product": "No φ: p = tanh(k·Δt·Δs), slope = (1 − p²)·k·Δt.",
}

DATASETS: dict[str, str] = {
    "digits": "8×8 grey digits inside scikit-learn, no download",
    "cifar10": "32×32 colour, 50,000 + 10,000 images, downloaded",
    "cifar100": "32×32 colour, 50,000 + 10,000 images, downloaded",
    "fashion_mnist": "28×28 grey, 60,000 + 10,000 images, downloaded",
    "svhn": "32×32 colour house numbers, 73,257 + 26,032 images, downloaded",
    "folder": "your images: ROOT/train/<class>/*, test/, val/; or ROOT/<class>/*; "
    "streamed if large",
    "cub200": "CUB-200-2011: 100 kinds of birds to train on, 100 others",
    "cars196": "Cars196: 98 models of cars to train on, 98 others",
    "sop": "Stanford Online Products: 11,318 products to train on, 11,316 others",
    "digits_scenes": "1 to 5 digits on noise, 64 to 128 px, for detection, no download",
    "cifar_scenes": "1 to 5 of CIFAR-10's images on noise, for detection; or a folder's",
    "cifar100_scenes": "1 to 5 of CIFAR-100's images on noise, for detection, downloaded",
    "coco": "COCO 2017, for detection: train2017/, val2017/, annotations/instances_*2017.json",
    "coco_folder": "your images in COCO's format, for detection: train/, "
    "annotations/instances_train.json or train/_annotations.coco.json; val/, test/",
    "voc": "Pascal VOC 2007 and 2012, for detection: VOCdevkit/VOC2007, VOCdevkit/VOC2012",
}


def library_models(library: str) -> list[str]:
    """Return the sorted models of a library, read from its source: importing it takes seconds.

    There are none where it is not installed.
    """
    found = find_spec(library)
    if found is None or found.origin is None:
        return []
    files = (Path(found.origin).parent / "models").glob("*.py")
    texts = (path.read_text(encoding="utf-8") for path in files)
    return sorted(chain.from_iterable(REGISTERED.findall(text) for text in texts))
