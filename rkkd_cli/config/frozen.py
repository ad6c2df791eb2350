"""The base class of the sections of an experiment."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from rkkd_cli.config.overrides import is_unset
from rkkd_cli.config.value_lists import fits_64_bits, split_list


class FrozenConfig(BaseModel):
    """A section of the experiment: immutable, strict about types, no unknown keys, no NaN.

    The text ``none`` unsets a key that has a default, and gives it that: TOML has no null. A list
    may be typed, ``0.5,0.75``. Integers have 64 bits, as in TOML.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _read_as_typed(cls, table: Any) -> Any:
        if not isinstance(table, Mapping):
            return table
        for key, value in table.items():
            if not fits_64_bits(value):
                raise PydanticCustomError("integer", "must be below 2⁶³", {"name": str(key)})
        unset = {key for key in unsettable_keys(cls) & table.keys() if is_unset(table[key])}
        lists = list_types(cls)
        return {
            key: _as_list(value, lists[key]) if key in lists else value
            for key, value in table.items()
            if key not in unset
        }


def key_error(key: str, value: object, problem: str) -> ValidationError:
    """Return the error of a section's key that only the section around it can tell."""
    details = InitErrorDetails(
        type="value_error", loc=(key,), input=value, ctx={"error": ValueError(problem)}
    )
    return ValidationError.from_exception_data(key, [details])


@cache
def optional_keys(section: type[BaseModel]) -> frozenset[str]:
    """Return the keys of a section whose value may be none."""
    fields = section.model_fields.items()
    return frozenset(key for key, field in fields if type(None) in get_args(field.annotation))


@cache
def unsettable_keys(section: type[BaseModel]) -> frozenset[str]:
    """Return the keys of a section that have a default, and to which ``none`` is no value."""
    fields = section.model_fields.items()
    return optional_keys(section) | {
        key
        for key, field in fields
        if not field.is_required() and not _takes_the_word(field.annotation)
    }


def _takes_the_word(annotation: Any) -> bool:
    is_choice = get_origin(annotation) is Literal
    return annotation is str or (is_choice and any(map(is_unset, get_args(annotation))))


@cache
def list_types(section: type[BaseModel]) -> Mapping[str, Any]:
    """Return the type of each key whose value is a list, unless it is read in a way of its own."""
    return {
        key: annotation
        for key, field in section.model_fields.items()
        for annotation in (field.annotation, *get_args(field.annotation))
        if get_origin(annotation) in (tuple, list)
        and not any(isinstance(how, BeforeValidator) for how in field.metadata)
    }


def _as_list(value: Any, list_type: Any) -> Any:
    """Return a list of this type, also one that is typed, ``0.5,0.75``, or one item alone."""
    values = as_tuple(value)
    if isinstance(values, str) and str in get_args(list_type):
        values = tuple(map(str, split_list(values)))
    return get_origin(list_type)(values) if isinstance(values, tuple) else values


def as_tuple(value: Any) -> Any:
    """Return a list as a tuple, also a list of numbers as it is typed, or one number alone."""
    values = split_list(value) if isinstance(value, str) else value
    values = values if isinstance(values, list | tuple) else [values]
    if all(type(item) in (int, float) for item in values) or isinstance(value, list):
        return tuple(values)
    return value


Floats = tuple[float, ...]


def check_positive(values: Floats | None) -> Floats | None:
    """Return the values. Raises ValueError unless all are greater than 0."""
    if values is not None and min(values, default=1.0) <= 0:
        raise ValueError("must be greater than 0 for every channel")
    return values
