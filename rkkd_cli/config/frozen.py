"""The base class of the sections of an experiment."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class FrozenConfig(BaseModel):
    """A section of the experiment: immutable, strict about types, no unknown keys, no NaN."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True
    )


def as_tuple(value: Any) -> Any:
    """Return a list as a tuple, and anything else unchanged."""
    return tuple(value) if isinstance(value, list) else value


Floats = Annotated[tuple[float, ...], BeforeValidator(as_tuple)]  # TOML has lists only
