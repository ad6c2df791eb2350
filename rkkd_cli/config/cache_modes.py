"""What ``cache_teacher`` keeps of a teacher: ``off``, ``exact``, ``fp16``, or ``top:K``."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator

CACHE_MODES = ("off", "exact", "fp16")
TOP_CLASSES = re.compile(r"top:([2-9]|[1-9][0-9]{1,8})")


def cache_mode(value: object) -> object:
    """Return the mode; ``--cache-teacher`` (true) is exact, ``--no-cache-teacher`` (false) off.

    Raises ValueError for anything else. One class has no order, so ``top:1`` is none.
    """
    mode = {True: "exact", False: "off"}[value] if isinstance(value, bool) else value
    if mode in CACHE_MODES or (isinstance(mode, str) and TOP_CLASSES.fullmatch(mode)):
        return mode
    raise ValueError("must be off, exact, fp16, or top:K with K from 2 on, such as top:64")


def kept_classes(mode: str) -> int | None:
    """Return of how many classes a mode keeps the logits; None: of all."""
    match = TOP_CLASSES.fullmatch(mode)
    return int(match[1]) if match else None


CacheMode = Annotated[Literal["off", "exact", "fp16"] | str, BeforeValidator(cache_mode)]
