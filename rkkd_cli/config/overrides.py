"""``key.sub=value`` overrides: read as TOML values, laid over a nested table."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

from rkkd_cli.errors import UserError

KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_+-]+)*")

DEEPEST = 20  # sections in one another; an experiment has four


class Override(NamedTuple):
    """One key of the experiment, dotted, and the value it gets."""

    key: str
    value: Any


def looks_like_override(text: str) -> bool:
    """Tell ``training.lr=0.1`` from the name or the path of a preset."""
    key, equals, _ = text.partition("=")
    return bool(equals) and KEY.fullmatch(key.strip()) is not None


def check_text(word: str) -> None:
    """Raise UserError for a word of a command line that is no text: it cannot be written down."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise UserError(f"{word!r} is no text in this terminal's encoding; use UTF-8") from None


def parse_override(text: str) -> Override:
    """Read one override; what is no TOML value (``resnet20``, ``0:3``) is taken as a string."""
    check_text(text)
    key, _, value = text.partition("=")
    return Override(key.strip(), parse_value(value.strip()))


def parse_value(text: str) -> Any:
    """Return the TOML value that ``text`` spells, or ``text`` itself."""
    if "\n" in text or "\r" in text:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def apply_overrides(table: Mapping[str, Any], overrides: Iterable[Override]) -> dict[str, Any]:
    """Return a copy of ``table`` with every override in its place.

    Raises UserError when one key is given two different values, or when a key leads through
    something that is no table.
    """
    result: dict[str, Any] = deepcopy(dict(table))
    given: dict[str, Any] = {}
    for key, value in overrides:
        if key.count(".") >= DEEPEST or is_too_deep({key: value}):
            raise UserError(f"{key[:40]}… is nested deeper than any key of an experiment")
        if key in given and given[key] != value:
            raise UserError(
                f"{key} is given twice, as {given[key]!r} and as {value!r}; keep one of them"
            )
        given[key] = value
        *sections, last = key.split(".")
        place = result
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UserError(f"{key}: {section!r} is a value, not a section; see `rkkd cat`")
        place[last] = deepcopy(value)
    return result


def is_too_deep(table: Mapping[str, Any]) -> bool:
    """Tell whether sections or lists are nested deeper than an experiment can be."""
    level: list[Any] = [table]
    for _ in range(DEEPEST):
        inner = [one.values() if isinstance(one, Mapping) else one for one in level]
        level = [x for values in inner for x in values if isinstance(x, Mapping | list)]
    return bool(level)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the nested table ``changes`` laid over it."""
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = merge(below, value)
        else:
            result[key] = value
    return result


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return ``{"rank.grad": True}`` for ``{"rank": {"grad": True}}``."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
