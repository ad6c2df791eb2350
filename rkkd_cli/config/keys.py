"""Every key of an experiment with its type, default, range and meaning, read from the models."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.methods import METHODS
from rkkd_cli.config.validation import sections_in
from rkkd_cli.errors import nearest, unknown_name

WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text"}
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}  # pydantic's names
NO_BOUND = 10**9  # bounds from here on only keep numbers out that nobody means


class Key(NamedTuple):
    """A dotted key. ``choices`` are all its values where they are few; empty texts: none."""

    name: str
    type: str
    default: str
    range: str
    meaning: str
    choices: tuple[str, ...] = ()


def all_keys() -> list[Key]:
    """Return every key, those of the methods' sections included."""
    keys = list(_keys_of(Experiment, ""))
    for name, method in METHODS.items():
        keys += _keys_of(method.settings, f"method.{name}.")
    return keys


def keys_in(section: str | None) -> list[Key]:
    """Return the keys of a section such as ``training`` or ``method.dkd``, of one key, or all.

    Raises UserError for another section, with the nearest one.
    """
    keys = all_keys()
    if section is None:
        return keys
    found = [key for key in keys if f"{key.name}.".startswith(f"{section}.")]
    if found:
        return found
    names = [key.name for key in keys]
    sections = dict.fromkeys(name.rpartition(".")[0] for name in names if "." in name)
    close = nearest(section, [*sections, *names])
    if close in names:
        raise unknown_name("key or section", section, [close])
    raise unknown_name("section", section, sections)


def _keys_of(model: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        sections = sections_in(field.annotation)
        for section in sections:
            yield from _keys_of(section, f"{prefix}{name}.")
        if not sections:
            yield _key(f"{prefix}{name}", field)


def _key(name: str, field: FieldInfo) -> Key:
    types = get_args(field.annotation)
    optional = type(None) in types
    kind = next((t for t in types if t is not type(None)), None) if optional else field.annotation
    choices = _choices(kind)
    text = " or ".join(choices) if choices else _type_text(kind)
    if optional:
        choices = (*choices, "none") if choices else ()
    default = "" if field.default_factory else _value_text(field.get_default())
    default = "required" if field.is_required() else default
    return Key(name, text, default, _range(field), field.description or "", choices)


def _choices(kind: Any) -> tuple[str, ...]:
    if kind is bool:
        return ("true", "false")
    if get_origin(kind) is Literal:
        return tuple(str(choice) for choice in get_args(kind))
    return next(filter(None, (_choices(inner) for inner in get_args(kind))), ())


def _type_text(kind: Any) -> str:
    if kind in WORDS:
        return WORDS[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple:
        return f"list of {_type_text(inner[0])}s"
    if origin is dict:
        return "values by name" if inner[1] is Any else "sections"
    return _type_text(inner[0])  # an annotated type


def _value_text(value: Any) -> str:
    """Return a default as it is typed."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_value_text, value)) or "[]"
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def _range(field: FieldInfo) -> str:
    """Return the bounds of a number: ``≥ 0, < 1``."""
    bounds = [
        f"{sign} {_value_text(getattr(metadata, bound))}"
        for metadata in field.metadata
        for bound, sign in BOUNDS.items()
        if abs(getattr(metadata, bound, NO_BOUND)) < NO_BOUND
    ]
    return ", ".join(bounds)
