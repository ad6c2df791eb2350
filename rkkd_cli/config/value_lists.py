"""Lists of values as they are typed: ``0.1,0.25``, ``0.1:0.9:0.2``, ``log:1:50:6``; and of seeds.

Seeds are ``0``, ``0,1,2`` or ``0:3``. A range of values has its end in it, one of seeds has not.
"""

import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from rkkd_cli.config.overrides import flatten, parse_value

MOST_VALUES = 10_000
MOST_SEEDS = 10_000

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
RANGE_ATTEMPT = re.compile(rf"\s*(?:{NUMBER}|log)\s*:")
FORMS = "write START:STOP:STEP, such as 0.1:0.9:0.2, or log:START:STOP:COUNT, such as log:1:50:6"


def parse_axes(axes: Any) -> Any:
    """Return ``{dotted key: values}`` of nested tables whose leaves are lists or typed lists.

    Raises ValueError that names the key.
    """
    if not isinstance(axes, Mapping):
        return axes
    return {key: _axis(key, values) for key, values in flatten(axes).items()}


def _axis(key: str, values: Any) -> tuple[Any, ...]:
    try:
        if isinstance(values, str):
            return parse_values(values)
        listed = list(values) if isinstance(values, list | tuple) else [values]
        return _distinct(listed)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def parse_values(text: str) -> tuple[Any, ...]:
    """Return the values that a list of values and ranges names, each once, in its order.

    Parts are separated by commas; a part is a TOML value, a word, an inclusive range
    ``START:STOP:STEP`` or a geometric one, ``log:START:STOP:COUNT``. Raises ValueError.
    """
    parts = [part.strip() for part in _split(text)]
    if any(not part for part in parts):
        raise ValueError("the list of values is empty, or has an empty part")
    return _distinct([value for part in parts for value in _part(part)])


def _distinct(values: list[Any]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("the list of values is empty")
    if len(values) > MOST_VALUES:
        raise ValueError(f"names {len(values):,} values; at most {MOST_VALUES:,} are taken")
    frozen = [tuple(value) if isinstance(value, list) else value for value in values]
    for value in frozen:
        if isinstance(value, Mapping):
            raise ValueError("varies a whole section; vary its keys one by one")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value} is not finite")
    kept: dict[tuple[bool, Any], Any] = {}
    for value in frozen:
        kept.setdefault((isinstance(value, bool), value), value)  # True is not 1 here, 1 is 1.0
    return tuple(kept.values())


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        if letter == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _part(part: str) -> list[Any]:
    if not RANGE_ATTEMPT.match(part):
        return [parse_value(part)]
    words = [word.strip() for word in part.split(":")]
    try:
        if words[0] == "log":
            _, start, stop, count = words
            return _geometric(part, float(start), float(stop), int(count))
        first, last, step = (Decimal(word) for word in words)
        return _arithmetic(part, first, last, step)
    except (ValueError, InvalidOperation) as error:
        if isinstance(error, ValueError) and str(error).startswith("range "):
            raise
        raise ValueError(f"{part!r} is no range; {FORMS}") from None


def _arithmetic(part: str, first: Decimal, last: Decimal, step: Decimal) -> list[Any]:
    if not (first.is_finite() and last.is_finite() and step.is_finite()):
        raise ValueError(f"range {part!r} is not finite")
    if step == 0 or (last - first) / step < 0:
        raise ValueError(f"range {part!r} never arrives: its step leads away from its end")
    count = int((last - first) / step) + 1
    if count > MOST_VALUES:
        raise ValueError(f"range {part!r} has {count:,} values; at most {MOST_VALUES:,} are taken")
    whole = all("." not in str(one) and one == one.to_integral_value() for one in (first, step))
    exact = [first + n * step for n in range(count)]
    return [int(one) if whole else float(one) for one in exact]


def _geometric(part: str, first: float, last: float, count: int) -> list[Any]:
    if not (0 < first < math.inf and 0 < last < math.inf):
        raise ValueError(f"range {part!r} must begin and end at numbers greater than 0")
    if not 2 <= count <= MOST_VALUES:
        raise ValueError(f"range {part!r} must have 2 to {MOST_VALUES:,} values")
    ratio = last / first
    return [float(f"{first * ratio ** (n / (count - 1)):.6g}") for n in range(count)]


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
