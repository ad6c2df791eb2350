"""How far a preset file may reach: what it names lies in the working folder, or below.

A preset may come from anywhere. What only its reader can allow has to be typed on the command
line: a path that leads elsewhere, links followed out of a dataset folder, code to run.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from rkkd_cli.config.overrides import flatten
from rkkd_cli.errors import UserError

PATHS = {"dataset.root": "--data-root", "teacher.checkpoint": "--teacher-checkpoint"}
LINKS = "dataset.follow_links"
MODELS = ("teacher.model", "student.model")
CODE = (*MODELS, "dataset.name", "method.name")
LIBRARIES = ("torchvision:", "timm:")  # of models


def refuse_reaching_out(table: Mapping[str, Any], typed: Sequence[str], where: str) -> None:
    """Raise UserError for a value of the file ``where`` that only a ``typed`` key may have."""
    for key, value in flatten(table).items():
        if key in typed:
            continue
        flag = next((flag for name, flag in PATHS.items() if _names(key, name)), None)
        if flag and isinstance(value, str) and leads_out(value):
            say = flag if key in PATHS else key
            raise UserError(
                f"{where}: {key} = {value!r} leads out of the working folder, which a file may "
                f"not; if you trust it, say so yourself: {say}{' ' if key in PATHS else '='}{value}"
            )
        if any(_names(key, name) and is_code(name, value) for name in CODE):
            raise UserError(
                f"{where}: {key} = {value!r} names code to run, which a file may not; if you trust "
                f"it, say so yourself: {key}={value}"
            )
        if _names(key, LINKS) and value is True:
            raise UserError(
                f"{where}: {key} lets links lead out of the dataset folder, which a file may not; "
                f"if you trust them, say so yourself: {key}=true"
            )


def _names(key: str, name: str) -> bool:
    return key == name or (key.startswith("arms.") and key.endswith(f".{name}"))


def is_code(key: str, name: object) -> bool:
    """Tell whether a key's value names code to run, ``package.module:name``."""
    if not isinstance(name, str) or ":" not in name:
        return False
    return key not in MODELS or not name.startswith(LIBRARIES)


def leads_out(path: str) -> bool:
    """Tell whether a path is absolute, a home folder, or climbs up with ``..``.

    Links are followed: those in the working folder are its owner's.
    """
    kinds = (PurePosixPath(path), PureWindowsPath(path))
    absolute = any(kind.is_absolute() or kind.drive or kind.root for kind in kinds)
    climbs = any(".." in kind.parts for kind in kinds)
    home = any(str(kind).startswith("~") for kind in kinds)  # as in ./~/x
    return absolute or climbs or home
