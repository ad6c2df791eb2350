"""``key.sub=value`` overrides: TOML values, laid over a nested table."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

from rkkd_cli.errors import UserError

KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_+-]+)*")

POINTED = re.compile(r"[+-]?([0-9]+\.|\.[0-9]+)([eE][+-]?[0-9]+)?")

REMOVABLE = ("arms", "vary", "findings", "teacher", "teachers")  # whole sections

# A key of older presets and records, ``teacher.checkpoint``, which is ``teacher.weights`` now.
FORMER_WEIGHTS = re.compile(r"(^|\.)(teacher|teachers\.[^.]+)\.checkpoint$")

MAX_DEPTH = 20  # nested sections; an experiment has four


class Override(NamedTuple):
    """A dotted key of the experiment and its new value."""

    key: str
    value: Any


def looks_like_override(text: str) -> bool:
    """Tell ``training.lr=0.1`` from the name or the path of a preset."""
    key, equals, _ = text.partition("=")
    return bool(equals) and KEY.fullmatch(key.strip()) is not None


def check_encoding(word: str) -> None:
    """Raise UserError for an argument whose bytes are no text in the terminal's encoding."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise UserError(f"{word!r} is no text in this terminal's encoding; use UTF-8") from None


def parse_override(text: str) -> Override:
    """Parse ``KEY=VALUE``; a value that is not valid TOML (``resnet20``, ``0:3``) is a string."""
    check_encoding(text)
    key, _, value = text.partition("=")
    return Override(current_key(key.strip()), parse_value(value.strip()))


def current_key(key: str) -> str:
    """Return what a key is called now; it may be one of an arm."""
    return FORMER_WEIGHTS.sub(r"\1\2.weights", key)


def with_current_keys(table: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    """Return a table of an older preset or record with its keys as they are called now."""
    result = {}
    for key, value in table.items():
        path = current_key(inside + key)
        nested = isinstance(value, Mapping) and path.count(".") < MAX_DEPTH
        result[path[len(inside) :]] = with_current_keys(value, f"{path}.") if nested else value
    return result


def parse_value(text: str) -> Any:
    """Return ``text`` parsed as a TOML value, or ``text`` itself if it is none.

    Numbers may lack a digit beside their point (``.5``), as in Python.
    """
    if "\n" in text or "\r" in text:
        return text
    if POINTED.fullmatch(text):
        return float(text)
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def is_unset(value: Any) -> bool:
    """Whether the value is the word that unsets an optional key: TOML has no null."""
    return isinstance(value, str) and value.strip().lower() in ("none", "null")


def apply_overrides(table: Mapping[str, Any], overrides: Iterable[Override]) -> dict[str, Any]:
    """Return a copy of ``table`` with the overrides applied; ``vary=none`` removes a section.

    Raises UserError if a key gets two different values, or leads through a value that is not a
    section.
    """
    result: dict[str, Any] = deepcopy(dict(table))
    given: dict[str, Any] = {}
    for key, value in overrides:
        if key.count(".") >= MAX_DEPTH or is_too_deep({key: value}):
            raise UserError(f"{key[:40]}… is nested deeper than any key of an experiment")
        if key in given and given[key] != value:
            raise UserError(
                f"{key} is given twice, as {given[key]!r} and as {value!r}; keep one of them"
            )
        given[key] = value
        *sections, last = key.split(".")
        parent = result
        for section in sections:
            parent = parent.setdefault(section, {})
            if not isinstance(parent, dict):
                raise UserError(f"{key}: {section!r} is a value, not a section; see `rkkd cat`")
        is_removable = key in REMOVABLE or sections == ["teachers"]
        if is_removable and is_unset(value):
            parent.pop(last, None)
        else:
            parent[last] = deepcopy(value)
    return result


def overridden_keys(overrides: Iterable[Override]) -> list[str]:
    """Return the dotted keys of all overridden values, also of those given as a whole section."""
    return [key for override in overrides for key in flatten({override.key: override.value})]


def is_too_deep(table: Mapping[str, Any]) -> bool:
    """Whether sections or lists are nested deeper than an experiment can be."""
    level: list[Any] = [table]
    for _ in range(MAX_DEPTH):
        inner = [node.values() if isinstance(node, Mapping) else node for node in level]
        level = [value for values in inner for value in values if isinstance(value, Mapping | list)]
    return bool(level)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the nested table ``changes`` laid over it."""
    result = dict(base)
    for key, value in changes.items():
        former = result.get(key)
        if isinstance(value, Mapping) and isinstance(former, Mapping):
            result[key] = merge(former, value)
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
