"""A preset file may come from anywhere, so it names no code to run: that has to be typed."""

import shlex
from collections.abc import Collection, Mapping
from typing import Any

from rkkd_cli.config.overrides import flatten
from rkkd_cli.config.value_lists import parse_axes
from rkkd_cli.errors import UserError

MODEL_KEYS = ("teacher.model", "student.model")
CODE_KEYS = (*MODEL_KEYS, "dataset.name", "method.name")  # their values may name code to run
LIBRARY_PREFIXES = ("torchvision:", "timm:")  # of models, which are not code of the user's


def check_code_is_typed(table: Mapping[str, Any], typed: Collection[str], where: str) -> None:
    """Raise UserError if a key of the file ``where`` that is not ``typed`` names code to run.

    The key may be one of the base experiment, of an arm, or one that the file varies.
    """
    for key, value in flatten(table).items():
        values = parse_axes({key: value})[key] if key.startswith("vary.") else (value,)
        code = next((name for name in values if _is_code(key, name)), None)
        if code is not None and key not in typed:
            raise UserError(
                f"{where}: {key} = {code!r} names code to run, which a file may not do; if you "
                f"trust it, type it on the command line: {shlex.quote(f'{key}={code}')}"
            )


def _is_code(key: str, value: object) -> bool:
    """Whether a key's value names code to run, as ``package.module:name``."""
    name = next((name for name in CODE_KEYS if f".{key}".endswith(f".{name}")), None)
    if name is None or not isinstance(value, str) or ":" not in value:
        return False
    return name not in MODEL_KEYS or not value.startswith(LIBRARY_PREFIXES)
