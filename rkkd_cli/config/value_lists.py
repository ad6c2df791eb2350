"""Lists of values and of seeds, as they are typed.

Values: ``0.1,0.25``, the range ``0.1:0.9:0.2``, which includes its end, and the geometric range
``log:1:50:6``. Seeds: ``0``, ``0,1,2``, and the range ``0:3``, which excludes its end.
"""

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal, InvalidOperation, localcontext
from typing import Any

from rkkd_cli.config.overrides import flatten, parse_value

MAX_VALUES = 10_000
MAX_SEEDS = 10_000
MAX_CLASSES = 1_000_000
MAX_INTEGER = 2**63 - 1  # of TOML, and of a column of metrics.csv
BRACKETS = ("[]", "()")
# The keys whose value is a list, like the settings of methods may be.
LIST_KEY = re.compile(r".*\.(milestones|mean|std|color_jitter)|(method\.[^.]+|.*\.options)\.[^.]+")

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
BEGINS_RANGE = re.compile(rf"\s*(?:{NUMBER}|log)\s*:")
RANGE_SYNTAX = (
    "write START:STOP:STEP, such as 0.1:0.9:0.2, or log:START:STOP:COUNT, such as log:1:50:6"
)
SETTING_RULE = "must be a finite number, a text, true or false, or a list of these"
NUMBERS_SYNTAX = "must be whole numbers from 0 to 2⁶³ − 1, such as 0 or 0,1,2 or 0:3"


def fits_64_bits(value: Any) -> bool:
    """Whether the value is no integer, or one that TOML can hold."""
    return not isinstance(value, int) or -MAX_INTEGER <= value <= MAX_INTEGER


def is_setting(value: Any) -> bool:
    """Whether the value is a finite number, a text, true or false, or a list of these."""
    if isinstance(value, list | tuple):
        return all(is_setting(item) and not isinstance(item, list | tuple) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str) or (isinstance(value, int) and fits_64_bits(value))


def without_brackets(text: str) -> str:
    """Return ``0, 1`` for ``[0, 1]`` and ``(0, 1)``, and any other text as it is."""
    text = text.strip()
    inner = text[1:-1]
    is_one = text[:1] + text[-1:] in BRACKETS and not set(inner) & set("[]()")
    return inner.strip() if is_one else text


def split_list(text: str) -> list[Any]:
    """Return the values of a list as it is typed: ``0.5,0.5`` or ``[0.5, 0.5]``; ``[]`` has none.

    ``text`` may also be that of one value.
    """
    inner = without_brackets(text)
    return [parse_value(part.strip()) for part in inner.split(",")] if inner else []


def parse_axes(axes: Any) -> Any:
    """Return ``{dotted key: values}`` for nested tables of lists, or of lists as they are typed.

    Raises ValueError that names the key. What is no table is returned unchanged.
    """
    if not isinstance(axes, Mapping):
        return axes
    return {key: _parse_axis(key, values) for key, values in flatten(axes).items()}


def _parse_axis(key: str, values: Any) -> tuple[Any, ...]:
    try:
        if isinstance(values, str):
            return parse_values(values)
        return _distinct(list(values) if isinstance(values, list | tuple) else [values])
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def parse_values(text: str) -> tuple[Any, ...]:
    """Return the values of a comma-separated list, in its order and without duplicates.

    A part of the list is a TOML value, a word, a range ``START:STOP:STEP`` (including its end) or a
    geometric range ``log:START:STOP:COUNT``. Raises ValueError.
    """
    parts = [part.strip() for part in _split_at_commas(text)]
    if any(not part for part in parts):
        raise ValueError("the list of values is empty, or has an empty part")
    return _distinct([value for part in parts for value in _parse_part(part)])


def _distinct(values: list[Any]) -> tuple[Any, ...]:
    """Return the values without duplicates, lists as tuples. Raises ValueError."""
    if not values:
        raise ValueError("the list of values is empty")
    if len(values) > MAX_VALUES:
        raise ValueError(f"names {len(values):,} values; at most {MAX_VALUES:,} are allowed")
    distinct: dict[tuple[bool, Any], Any] = {}
    for value in values:
        if isinstance(value, Mapping):
            raise ValueError("varies a whole section; vary its keys one by one")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value} is not finite")
        if not fits_64_bits(value):
            raise ValueError("integers must be below 2⁶³")
        frozen = tuple(value) if isinstance(value, list) else value
        distinct.setdefault((isinstance(frozen, bool), frozen), frozen)  # 1 == 1.0, but not True
    return tuple(distinct.values())


def _split_at_commas(text: str) -> list[str]:
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


def _parse_part(part: str) -> list[Any]:
    if not BEGINS_RANGE.match(part):
        return [parse_value(part)]
    words = [word.strip() for word in part.split(":")]
    try:
        if words[0] == "log":
            _, start, stop, count = words
            numbers = float(start), float(stop), int(count)
        else:
            first, last, step = (Decimal(word) for word in words)
    except (ValueError, InvalidOperation):
        raise ValueError(f"{part!r} is no range; {RANGE_SYNTAX}") from None
    if words[0] == "log":
        return _geometric_range(part, *numbers)
    return _arithmetic_range(part, first, last, step)


def _arithmetic_range(part: str, first: Decimal, last: Decimal, step: Decimal) -> list[Any]:
    if not (first.is_finite() and last.is_finite() and step.is_finite()):
        raise ValueError(f"range {part!r} is not finite")
    with localcontext(Context(traps=[])):  # what no Decimal can hold becomes infinite
        steps = (last - first) / step
    if step == 0 or steps < 0:
        raise ValueError(f"range {part!r} never arrives: its step leads away from its end")
    if steps >= MAX_VALUES:
        raise ValueError(f"range {part!r} has too many values; at most {MAX_VALUES:,} are allowed")
    values = [first + index * step for index in range(int(steps) + 1)]
    are_whole = all("." not in str(x) and x == x.to_integral_value() for x in (first, step))
    return [int(value) if are_whole else float(value) for value in values]


def _geometric_range(part: str, first: float, last: float, count: int) -> list[Any]:
    if not (0 < first < math.inf and 0 < last < math.inf):
        raise ValueError(f"range {part!r} must begin and end at numbers greater than 0")
    if not 2 <= count <= MAX_VALUES:
        raise ValueError(f"range {part!r} must have 2 to {MAX_VALUES:,} values")
    ratio = last / first
    return [float(f"{first * ratio ** (index / (count - 1)):.6g}") for index in range(count)]


def value_text(value: object) -> str:
    """Return a value of the experiment as it is typed."""
    if isinstance(value, bool) or value is None:
        return "none" if value is None else str(value).lower()
    return ",".join(map(value_text, value)) if isinstance(value, list | tuple) else str(value)


def seeds_text(seeds: Sequence[int]) -> str:
    """Return seeds as they are typed: ``0:3``, or ``0,4`` if they do not follow each other."""
    first, count = seeds[0], len(seeds)
    if count > 2 and list(seeds) == list(range(first, first + count)):
        return f"{first}:{first + count}"
    return value_text(tuple(seeds))


def parse_seeds(value: Any) -> tuple[int, ...]:
    """Return the seeds of ``0``, ``"0,1,2"``, ``"[0, 1]"``, ``"0:3"`` (0, 1, 2) or a list.

    Raises ValueError for anything else, also for repeated seeds, and if there are none.
    """
    return _parse_numbers(value, "seed", "seeds", MAX_SEEDS)


def parse_classes(value: Any) -> tuple[int, ...]:
    """Return the class numbers of a list that is typed as seeds are: ``"0:50"`` has 50 of them.

    Raises ValueError for anything else.
    """
    return _parse_numbers(value, "class", "classes", MAX_CLASSES)


def _parse_numbers(value: Any, one: str, several: str, most: int) -> tuple[int, ...]:
    if isinstance(value, bool) or not isinstance(value, int | str | list | tuple):
        raise ValueError(NUMBERS_SYNTAX)
    if isinstance(value, int):
        numbers = [value]
    elif isinstance(value, str):
        numbers = []
        for part in without_brackets(value).split(","):
            numbers += _parse_number_range(part.strip(), several, most)
    else:
        numbers = list(value)
    if not numbers:
        raise ValueError(f"must name at least one {one}, such as 0 or 0,1,2")
    if not all(type(number) is int and 0 <= number <= MAX_INTEGER for number in numbers):
        raise ValueError(NUMBERS_SYNTAX)
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"must not name a {one} twice")
    return tuple(numbers)


def _parse_number_range(part: str, several: str, most: int) -> range:
    match = re.fullmatch(r"(\d{1,19})(?::(\d{1,19}))?", part)
    if match is None:
        raise ValueError(NUMBERS_SYNTAX)
    first = int(match[1])
    last = first + 1 if match[2] is None else int(match[2])
    if last - first > most:
        raise ValueError(f"must be at most {most} {several}")
    return range(first, last)
