"""Seeds as they are typed: ``0``, ``0,1,2``, ``0:3``."""

import re
from typing import Any

MOST_SEEDS = 10_000


def parse_seeds(value: Any) -> tuple[int, ...]:
    """Return seed values from ``0``, ``"0,1,2"``, ``"0:3"`` (0, 1, 2) or a list of integers.

    Raises ValueError for anything else, for negative or repeated seeds and for none at all.
    """
    if isinstance(value, bool) or not isinstance(value, int | str | list | tuple):
        raise ValueError("must be seed values such as 0, '0,1,2' or '0:3'")
    if isinstance(value, int):
        seeds = [value]
    elif isinstance(value, str):
        seeds = [seed for part in value.split(",") for seed in _seed_range(part.strip())]
    else:
        seeds = list(value)
    if not seeds:
        raise ValueError("must name at least one seed, such as 0 or 0,1,2")
    if any(isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 for seed in seeds):
        raise ValueError("must be whole numbers from 0 on")
    if len(set(seeds)) != len(seeds):
        raise ValueError("must not name a seed twice")
    return tuple(seeds)


def _seed_range(part: str) -> list[int]:
    match = re.fullmatch(r"(\d+)(?::(\d+))?", part)
    if match is None:
        raise ValueError("must be seed values such as 0, '0,1,2' or '0:3'")
    first = int(match[1])
    last = first + 1 if match[2] is None else int(match[2])
    if last - first > MOST_SEEDS:
        raise ValueError(f"must be at most {MOST_SEEDS} seeds")
    return list(range(first, last))
