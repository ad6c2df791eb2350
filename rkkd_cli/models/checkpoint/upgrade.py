"""Upgrades the keys of torchvision's and timm's published files to those of today's models."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

# Auxiliary heads, which only training uses. A network is recognised by its first block's name.
AUXILIARY_HEADS = {"inception3a.": ("aux1", "aux2"), "Mixed_5b.": ("AuxLogits",)}

# Keys of torchvision's DenseNets and vision transformers when their files were written.
RENAMED_KEYS = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(encoder_layer_\d+\.mlp\.)linear_1\."), r"\g<1>0."),
    (re.compile(r"(encoder_layer_\d+\.mlp\.)linear_2\."), r"\g<1>3."),
)


def upgrade_keys(
    tensors: Mapping[str, Tensor], expected: Iterable[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors under the keys that a model expects today, and the names of dropped heads.

    Drops nothing but auxiliary heads of GoogLeNet and Inception that the model was built without.
    """
    keys = set(expected)
    dropped_heads = tuple(
        head
        for first_block, heads in AUXILIARY_HEADS.items()
        for head in heads
        if _has_prefix(keys, first_block)
        and not _has_prefix(keys, f"{head}.")
        and _has_prefix(tensors, f"{head}.")
    )
    kept = {key: t for key, t in tensors.items() if key.partition(".")[0] not in dropped_heads}
    upgraded = {_upgrade_key(key, keys): tensor for key, tensor in kept.items()}
    return upgraded if len(upgraded) == len(kept) else kept, dropped_heads


def _has_prefix(keys: Iterable[str], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in keys)


def _upgrade_key(key: str, expected: set[str]) -> str:
    for pattern, replacement in RENAMED_KEYS:
        upgraded = pattern.sub(replacement, key)
        if key not in expected and upgraded in expected:
            return upgraded
    return key
