"""The base class of the sections of an experiment."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from rkkd_cli.config.overrides import is_unset
from rkkd_cli.config.value_lists import fits_64_bits, split_list


class FrozenConfig(BaseModel):
    """A section of the experiment: immutable, strict about types, no unknown keys, no NaN.

    The text ``none`` unsets an optional key: TOML has no null. Integers have 64 bits, as in TOML.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _read_none_and_integers(cls, table: Any) -> Any:
        if not isinstance(table, Mapping):
            return table
        for key, value in table.items():
            if not fits_64_bits(value):
                raise PydanticCustomError("integer", "must be below 2⁶³", {"name": str(key)})
        unset = {key: None for key in optional_keys(cls) if is_unset(table.get(key))}
        return {**table, **unset}


@cache
def optional_keys(section: type[BaseModel]) -> frozenset[str]:
    """Return the keys of a section whose value may be none."""
    fields = section.model_fields.items()
    return frozenset(key for key, field in fields if type(None) in get_args(field.annotation))


def as_tuple(value: Any) -> Any:
    """Return a list as a tuple, also a list of numbers as it is typed, or one number alone."""
    values = split_list(value) if isinstance(value, str) else value
    values = values if isinstance(values, list | tuple) else [values]
    if all(type(item) in (int, float) for item in values) or isinstance(value, list):
        return tuple(values)
    return value


Floats = Annotated[tuple[float, ...], BeforeValidator(as_tuple)]  # TOML has lists only
