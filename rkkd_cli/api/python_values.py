"""Python's values as overrides of an experiment: nested tables, numpy's numbers, paths."""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from rkkd_cli.config.overrides import Override, apply_overrides, current_key
from rkkd_cli.errors import UserError

WHOLE = ("arms", "vary", "findings", "teachers")  # sections that are replaced, not merged


def overrides_from(table: Mapping[str, Any], inside: str = "") -> Iterator[Override]:
    """Yield an override for each value of a nested table. Raises UserError for a key of no text."""
    for key, value in table.items():
        if not isinstance(key, str):
            raise UserError(f"{key!r} is no key; keys are texts, such as 'training.epochs'")
        full = inside + key
        is_whole = full.partition(".")[0] in WHOLE or full.endswith(".options")
        if isinstance(value, Mapping) and not is_whole:
            yield from overrides_from(value, f"{full}.")
        else:
            yield Override(current_key(full), plain(value))


def plain(value: Any) -> Any:
    """Return a value as a preset could hold it; None is the word that unsets a key."""
    if value is None:
        return "none"
    if hasattr(value, "tolist"):  # an array or a number of numpy, or a tensor
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return apply_overrides({}, overrides_from(value)) if value else {}
    if isinstance(value, list | tuple | range):
        return [plain(one) for one in value]
    return value
