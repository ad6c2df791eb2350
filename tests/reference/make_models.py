"""Write models.json: outputs of the published models for weights and images in closed form.

    python tests/reference/make_models.py --repdistiller DIR --mdistiller DIR --simkd DIR

Each DIR is a checkout, at any commit, of the repository named in SOURCES. A checkout without git
states its commit in a file COMMIT.
"""

import argparse
import contextlib
import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from checkouts import commit_of
from fill import digest, fill, images
from torch import Tensor, nn

CLASSES = 100
OUTPUT = Path(__file__).with_name("models.json")


class Outputs(NamedTuple):
    """A published model's logits, pooled features, and maps after and before their ReLU."""

    logits: Tensor
    pooled: Tensor
    maps: list[Tensor]
    preacts: list[Tensor]


class Source(NamedTuple):
    """A repository, the folder and files of its models, and how to get their features."""

    url: str
    package: str
    files: list[str]
    forward: Callable[[Any, Tensor], Outputs]
    models: dict[str, str]  # our name → theirs


def forward_repdistiller(model: Any, x: Tensor) -> Outputs:
    (*maps, pooled), logits = model(x, is_feat=True)
    (*preacts, _), _ = model(x, is_feat=True, preact=True)
    return Outputs(logits, pooled, maps, preacts)


def forward_mdistiller(model: Any, x: Tensor) -> Outputs:
    logits, features = model(x)
    maps = features["feats"]
    return Outputs(logits, features["pooled_feat"], maps, features.get("preact_feats", maps))


def forward_simkd(model: Any, x: Tensor) -> Outputs:
    (*maps, pooled), logits = model(x, is_feat=True, preact=True)
    return Outputs(logits, pooled, maps, maps)


PUBLISHED = {
    "resnet8": "resnet8",
    "resnet14": "resnet14",
    "resnet20": "resnet20",
    "resnet32": "resnet32",
    "resnet44": "resnet44",
    "resnet56": "resnet56",
    "resnet110": "resnet110",
    "resnet8x4": "resnet8x4",
    "resnet32x4": "resnet32x4",
    "ResNet50": "ResNet50",
    "wrn_16_1": "wrn_16_1",
    "wrn_16_2": "wrn_16_2",
    "wrn_40_1": "wrn_40_1",
    "wrn_40_2": "wrn_40_2",
    "vgg8": "vgg8_bn",
    "vgg11": "vgg11_bn",
    "vgg13": "vgg13_bn",
    "vgg16": "vgg16_bn",
    "vgg19": "vgg19_bn",
    "MobileNetV2": "mobile_half",
    "ShuffleV1": "ShuffleV1",
    "ShuffleV2": "ShuffleV2",
}
FILES = ["resnet", "resnetv2", "wrn", "vgg", "mobilenetv2", "ShuffleNetv1", "ShuffleNetv2"]
SOURCES = {
    "repdistiller": Source(
        "https://github.com/HobbitLong/RepDistiller",
        "models",
        FILES,
        forward_repdistiller,
        # ResNet18 and ResNet34 stand in its file, though not in its list of models.
        PUBLISHED | {"ResNet18": "ResNet18", "ResNet34": "ResNet34"},
    ),
    "mdistiller": Source(
        "https://github.com/megvii-research/mdistiller",
        "mdistiller/models/cifar",
        FILES,
        forward_mdistiller,
        PUBLISHED | {"ResNet18": "ResNet18"},
    ),
    "simkd": Source(
        "https://github.com/DefangChen/SimKD",
        "models",
        ["mobilenetv2"],
        forward_simkd,
        {"MobileNetV2x2": "mobile_half_double"},
    ),
}


@contextlib.contextmanager
def import_files(folder: Path, names: list[str]) -> Iterator[list[Any]]:
    """Import single files of a folder, without the package around them."""
    sys.path.insert(0, str(folder))
    try:
        yield [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(name, None)


def build(modules: list[Any], name: str) -> nn.Module:
    maker = next(getattr(module, name) for module in modules if hasattr(module, name))
    with contextlib.redirect_stdout(io.StringIO()):  # some print their configuration
        model: nn.Module = maker(num_classes=CLASSES)
    return model


def sizes_and_sums(maps: list[Tensor]) -> list[list[Any]]:
    return [[list(m.shape[1:]), m.abs().sum().item()] for m in maps]


def describe(model: nn.Module, outputs: Outputs) -> dict[str, Any]:
    return {
        "names": digest(model.state_dict()),
        "logits": outputs.logits[:, ::11].flatten().tolist(),
        "logits_abs_sum": outputs.logits.abs().sum().item(),
        "pooled_sum": outputs.pooled.sum().item(),
        "maps": sizes_and_sums(outputs.maps),
        "preacts": sizes_and_sums(outputs.preacts),
    }


def describe_source(key: str, checkout: Path) -> list[dict[str, Any]]:
    source = SOURCES[key]
    origin = {"url": source.url, "commit": commit_of(checkout)}
    entries = []
    with import_files(checkout / source.package, source.files) as modules, torch.no_grad():
        for ours, theirs in source.models.items():
            model = fill(build(modules, theirs))
            outputs = describe(model, source.forward(model, images()))
            entries.append({"model": ours, **origin, **outputs})
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for key in SOURCES:
        parser.add_argument(f"--{key}", type=Path, required=True, metavar="DIR")
    checkouts = vars(parser.parse_args())
    torch.set_num_threads(1)
    entries = [entry for key, folder in checkouts.items() for entry in describe_source(key, folder)]
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    OUTPUT.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
