"""A bigger model of the same kind, to teach a given one."""

import re

from rkkd_cli.errors import UserError
from rkkd_cli.models.catalogue import LIBRARIES, MODELS
from rkkd_cli.models.checkpoint.skeleton import reference_state_dict

TIMES = 2  # as many parameters, at least, if there is such a model
LETTERS = re.compile(r"[A-Za-z]+")


def bigger_model(name: str) -> str:
    """Return the smallest model of the same kind with twice the parameters, else the largest.

    Of the same kind are models of one library whose names differ in one of the words that ``_``
    separates, and begin with the same letters: ``resnet20`` and ``resnet44``,
    ``timm:deit_tiny_patch16_224`` and ``timm:deit_small_patch16_224``. Raises UserError if none of
    them is bigger.
    """
    own = _count(name)
    assert own is not None, f"{name} has been checked"
    counts = [(count, other) for other in _kin(name) if (count := _count(other)) and count > own]
    if not counts:
        listing = f"rkkd ls models {name.partition(':')[0]}" if ":" in name else "rkkd ls models"
        raise UserError(
            f"no bigger model of the kind of {name} is known, to teach it; name one with "
            f"--teacher: {listing}"
        )
    return min((one for one in counts if one[0] >= TIMES * own), default=max(counts))[1]


def _kin(name: str) -> list[str]:
    library, colon, own = name.rpartition(":")
    names = LIBRARIES[library]() if colon else MODELS
    return [f"{library}{colon}{other}" for other in names if _is_kin(own, other)]


def _is_kin(one: str, other: str) -> bool:
    words, others = one.split("_"), other.split("_")
    if len(words) != len(others) or _letters(one) != _letters(other):
        return False
    return sum(a != b for a, b in zip(words, others, strict=True)) == 1


def _letters(name: str) -> str:
    found = LETTERS.match(name)
    return found.group() if found else ""


def _count(name: str) -> int | None:
    """Return a model's parameters and buffers, or None if it cannot be built without options."""
    try:
        return sum(tensor.numel() for tensor in reference_state_dict(name).values())
    except (ValueError, RuntimeError, TypeError):
        return None
