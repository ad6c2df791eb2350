"""What a preset file may not do, since it may come from anywhere.

Its paths stay in the working folder or below, it names no code to run, and it lets no links lead
out of a dataset folder. Only a value typed on the command line may do these things.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from rkkd_cli.config.overrides import flatten
from rkkd_cli.errors import UserError

PATH_FLAGS = {"dataset.root": "--data-root", "teacher.checkpoint": "--teacher-checkpoint"}
FOLLOW_LINKS = "dataset.follow_links"
MODEL_KEYS = ("teacher.model", "student.model")
CODE_KEYS = (*MODEL_KEYS, "dataset.name", "method.name")  # their values may name code to run
LIBRARY_PREFIXES = ("torchvision:", "timm:")  # of models, which are not code of the user's


def check_untrusted_values(table: Mapping[str, Any], typed: Sequence[str], where: str) -> None:
    """Raise UserError for a value of the file ``where`` that only a ``typed`` key may have."""
    for key, value in flatten(table).items():
        if key in typed:
            continue
        path_key = next((name for name in PATH_FLAGS if _sets(key, name)), None)
        if path_key and isinstance(value, str) and escapes_cwd(value):
            typing = f"{PATH_FLAGS[key]} {value}" if key == path_key else f"{key}={value}"
            raise UserError(
                f"{where}: {key} = {value!r} leads out of the working folder, which a file may "
                f"not do; if you trust it, type it on the command line: {typing}"
            )
        if any(_sets(key, name) and is_code(name, value) for name in CODE_KEYS):
            raise UserError(
                f"{where}: {key} = {value!r} names code to run, which a file may not do; if you "
                f"trust it, type it on the command line: {key}={value}"
            )
        if _sets(key, FOLLOW_LINKS) and value is True:
            raise UserError(
                f"{where}: {key} lets links lead out of the dataset folder, which a file may not "
                f"do; if you trust them, type it on the command line: {key}=true"
            )


def _sets(key: str, name: str) -> bool:
    """Whether a dotted key sets ``name``, in the base experiment or in an arm."""
    return key == name or (key.startswith("arms.") and key.endswith(f".{name}"))


def is_code(key: str, name: object) -> bool:
    """Whether a key's value names code to run, as ``package.module:name``."""
    if not isinstance(name, str) or ":" not in name:
        return False
    return key not in MODEL_KEYS or not name.startswith(LIBRARY_PREFIXES)


def escapes_cwd(path: str) -> bool:
    """Whether a path is absolute, begins in a home folder, or climbs up with ``..``.

    It is read as a POSIX and as a Windows path. Links are not resolved: those in the working folder
    are its owner's.
    """
    readings = (PurePosixPath(path), PureWindowsPath(path))
    absolute = any(reading.is_absolute() or reading.drive or reading.root for reading in readings)
    climbs = any(".." in reading.parts for reading in readings)
    home = any(str(reading).startswith("~") for reading in readings)  # as in ./~/x
    return absolute or climbs or home
