"""From a nested table to an Experiment, with one clear sentence for what is wrong in it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.stated_findings import StatedFinding
from rkkd_cli.errors import UserError, nearest

LONGEST_VALUE = 200

METHOD_SETTING = re.compile(r"method\.[a-z0-9_]+\.[a-z0-9_]+")


def experiment_from(
    table: Mapping[str, Any], where: str, overridden: Sequence[str] = ()
) -> Experiment:
    """Validate ``table``. Raises UserError, which begins with ``where``.

    For a key among ``overridden`` it does not: that value was typed and stands in no file.
    """
    try:
        return Experiment.model_validate(dict(table))
    except ValidationError as error:
        key, sentence = _key_and_sentence(error, [*known_keys(), *_keys_of_findings(table)])
        typed = any(key == one or one.startswith(f"{key}.") for one in overridden)
        raise UserError(sentence if typed else f"{where}: {sentence}") from None


def _keys_of_findings(table: Mapping[str, Any]) -> list[str]:
    named = table.get("findings")
    names = named if isinstance(named, Mapping) else ()
    return [f"findings.{name}.{key}" for name in names for key in StatedFinding.model_fields]


def sentence_of(error: ValidationError, section: str, keys: Iterable[str]) -> str:
    """Return what is wrong in a section that has these keys."""
    return _key_and_sentence(error, [f"{section}.{key}" for key in keys], f"{section}.")[1]


def check_known_key(key: str) -> None:
    """Raise UserError for what is no key of an experiment, or a whole section.

    The settings of methods (``method.dkd.beta``) are known to the methods alone.
    """
    keys = known_keys()
    if METHOD_SETTING.fullmatch(key):
        return
    if key not in keys:
        raise UserError(_unknown(key, keys))
    inside = next((one for one in keys if one.startswith(f"{key}.")), None)
    if inside is not None:
        raise UserError(f"{key} is a section; name one of its keys, such as {inside}")


def _unknown(key: str, keys: Iterable[str]) -> str:
    close = nearest(key, keys)
    hint = f"did you mean {close!r}?" if close else "`rkkd cat PRESET` shows the keys"
    return f"unknown key {key!r}; {hint}"


def known_keys(model: type[BaseModel] = Experiment, prefix: str = "") -> list[str]:
    """Return every dotted key of an experiment, sections included."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for section in _models_in(field.annotation):
            keys += known_keys(section, f"{prefix}{name}.")
    return keys


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that a key may hold; those with names of their own are none of them."""
    if getattr(annotation, "__origin__", None) is dict:
        return []
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [model for argument in arguments for model in _models_in(argument)]


def _key_and_sentence(
    error: ValidationError, keys: Iterable[str], prefix: str = ""
) -> tuple[str, str]:
    errors = error.errors(include_url=False)
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    further = [first["ctx"]["name"]] if "name" in first.get("ctx", {}) else []
    key = prefix + ".".join(str(part) for part in (*first["loc"], *further))
    if first["type"] == "extra_forbidden":
        return key, _unknown(key, keys)
    if first["type"] == "missing":
        return key, f"{key} is missing"
    if first["type"] in ("model_type", "dict_type"):
        return key, f"{key} = {_shown(first['input'])}: must be a section with keys of its own"
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    message = message.replace("a valid tuple", "a list")
    if not key or isinstance(first["input"], Mapping):
        return key, f"{key}: {message}".removeprefix(": ")
    return key, f"{key} = {_shown(first['input'])}: {message}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
