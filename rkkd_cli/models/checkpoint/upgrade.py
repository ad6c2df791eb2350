"""What torchvision's and timm's published files hold otherwise than their models of today."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

# Heads that only training uses, of networks that are told by the names of their first blocks.
AUXILIARY = {"inception3a.": ("aux1", "aux2"), "Mixed_5b.": ("AuxLogits",)}

# Names as torchvision's DenseNets and vision transformers had them when their files were written.
RENAMED = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(encoder_layer_\d+\.mlp\.)linear_1\."), r"\g<1>0."),
    (re.compile(r"(encoder_layer_\d+\.mlp\.)linear_2\."), r"\g<1>3."),
)


def in_todays_form(
    tensors: Mapping[str, Tensor], expected: Iterable[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors under a model's names of today, and the auxiliary heads left out.

    Left out are exactly the heads of GoogLeNet and Inception that the model was built without.
    """
    names = set(expected)
    heads = tuple(
        head
        for first, heads in AUXILIARY.items()
        for head in heads
        if _begin(names, first) and not _begin(names, f"{head}.") and _begin(tensors, f"{head}.")
    )
    kept = {name: t for name, t in tensors.items() if name.partition(".")[0] not in heads}
    today = {_renamed(name, names): tensor for name, tensor in kept.items()}
    return today if len(today) == len(kept) else kept, heads


def _begin(names: Iterable[str], start: str) -> bool:
    return any(name.startswith(start) for name in names)


def _renamed(name: str, names: set[str]) -> str:
    for old, new in RENAMED:
        today = old.sub(new, name)
        if name not in names and today in names:
            return today
    return name
