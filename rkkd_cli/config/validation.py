"""Build an Experiment from a nested table, with one clear sentence for what is wrong in it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from rkkd_cli.config.experiment import Experiment, TeacherConfig
from rkkd_cli.config.frozen import optional_keys
from rkkd_cli.config.stated_findings import StatedFinding
from rkkd_cli.errors import UserError, nearest

MAX_VALUE_LENGTH = 200  # of a value in a message

SPELT_OUT = {  # what pydantic says, in the words of somebody who types it
    "a valid tuple": "a list such as 0.5,0.75 or [0.5, 0.75]",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
}

# The keys that only a method knows, or the builder of a model.
FREE_KEY = re.compile(
    r"method\.[a-z0-9_]+\.[a-z0-9_]+|(teacher|teachers\.\w+|student)\.options\.[A-Za-z0-9_]+"
)


def experiment_from(
    table: Mapping[str, Any], where: str, overridden: Sequence[str] = ()
) -> Experiment:
    """Return the validated experiment. Raises UserError, which begins with ``where``.

    An error in a key among ``overridden`` does not: its value was typed, and stands in no file.
    """
    try:
        return Experiment.model_validate(dict(table))
    except ValidationError as error:
        key, message = _describe_error(error, [*known_keys(), *_keys_by_name(table)])
        typed = any(
            f"{other}.".startswith(f"{key}.") or key.startswith(f"{other}.") for other in overridden
        )
        raise UserError(message if typed else f"{where}: {message}") from None


def _keys_by_name(table: Mapping[str, Any]) -> list[str]:
    """Return the keys of the findings and of the teachers that the table names."""
    keys: list[str] = []
    for section, model in (("findings", StatedFinding), ("teachers", TeacherConfig)):
        names = table.get(section)
        for name in names if isinstance(names, Mapping) else ():
            keys += known_keys(model, f"{section}.{name}.")
    return keys


def section_error(error: ValidationError, section: str, keys: Iterable[str]) -> str:
    """Return the message of an error in the section that has these keys."""
    return _describe_error(error, [f"{section}.{key}" for key in keys], f"{section}.")[1]


def check_known_key(key: str) -> None:
    """Raise UserError for an unknown key or a whole section.

    Settings of a method, such as ``method.dkd.beta``, and options of a model are not checked: only
    the method and the model know them.
    """
    keys = known_keys()
    if FREE_KEY.fullmatch(key):
        return
    if key.startswith("teachers."):
        keys = known_keys(TeacherConfig, f"teachers.{key.split('.')[1]}.")
    if key not in keys:
        raise UserError(_unknown_key(key, keys))
    inside = next((other for other in keys if other.startswith(f"{key}.")), None)
    if inside is not None:
        raise UserError(f"{key} is a section; name one of its keys, such as {inside}")


def _unknown_key(key: str, keys: Iterable[str]) -> str:
    close = nearest(key, keys)
    hint = f"did you mean {close!r}?" if close else "`rkkd cat PRESET` shows the keys"
    return f"unknown key {key!r}; {hint}"


def known_keys(model: type[BaseModel] = Experiment, prefix: str = "") -> list[str]:
    """Return every dotted key of an experiment, sections included."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for section in sections_in(field.annotation):
            keys += known_keys(section, f"{prefix}{name}.")
    return keys


def _may_be_none(model: type[BaseModel], key: Sequence[Any]) -> bool:
    """Whether a key, given in parts, is optional."""
    name, *rest = key
    if not rest:
        return name in optional_keys(model)
    annotation = model.model_fields[name].annotation if name in model.model_fields else None
    return any(_may_be_none(section, rest) for section in sections_in(annotation))


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that a key's type names, except those in a dict, whose keys are free."""
    if getattr(annotation, "__origin__", None) is dict:
        return []
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [model for argument in arguments for model in sections_in(argument)]


def _describe_error(
    error: ValidationError, keys: Iterable[str], prefix: str = ""
) -> tuple[str, str]:
    """Return the key and the message of the first error; an unknown key comes before all others."""
    errors = error.errors(include_url=False)
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    inner = [first["ctx"]["name"]] if "name" in first.get("ctx", {}) else []
    key = prefix + ".".join(str(part) for part in (*first["loc"], *inner))
    if first["type"] == "extra_forbidden":
        return key, _unknown_key(key, keys)
    if first["type"] == "missing":
        return key, f"{key} is missing"
    value = _short_repr(first["input"])
    if first["type"] in ("model_type", "dict_type"):
        return key, f"{key} = {value}: must be a section with keys of its own"
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    for theirs, ours in SPELT_OUT.items():
        message = message.replace(theirs, ours)
    if not key or isinstance(first["input"], Mapping):
        return key, f"{key}: {message}".removeprefix(": ")
    if not prefix and first["loc"] and _may_be_none(Experiment, first["loc"]):
        message = f"{message}, or none"
    return key, f"{key} = {value}: {message}"


def _short_repr(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more than 4,300 digits
        return "…"
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}…"
