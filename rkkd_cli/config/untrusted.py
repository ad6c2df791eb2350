"""A preset file may come from anywhere, so it names no code to run: that has to be typed."""

import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import flatten
from rkkd_cli.config.tasks import without_detector
from rkkd_cli.config.value_lists import parse_axes
from rkkd_cli.errors import UserError

MODEL_KEYS = ("teacher.model", "student.model")
CODE_KEYS = (*MODEL_KEYS, "dataset.name", "method.name")  # their values may name code to run
TEACHERS_MODEL = re.compile(r"\bteachers\.[^.]+\.model$")  # that of one of several
LIBRARY_PREFIXES = ("torchvision:", "timm:")  # of models, which are not code of the user's


def check_code_is_typed(table: Mapping[str, Any], typed: Collection[str], where: str) -> None:
    """Raise UserError if a key of the file ``where`` that is not ``typed`` names code to run.

    The key may be one of the base experiment, of an arm, or one that the file varies.
    """
    for key, (code, *_) in code_by_key(table).items():
        if key not in typed:
            raise UserError(
                f"{where}: {key} = {code!r} names code to run, which a file may not do; if you "
                f"trust it, type it on the command line: {shlex.quote(f'{key}={code}')}"
            )


def code_by_key(table: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the values of each key of a table that name code to run."""
    found: dict[str, list[str]] = {}
    for key, value in flatten(table).items():
        values = parse_axes({key: value})[key] if key.startswith("vary.") else (value,)
        if named := [name for name in values if _is_code(key, name)]:
            found[key] = named
    return found


def named_code(experiments: Iterable[Experiment]) -> list[tuple[str, str]]:
    """Return the code of the user's that the experiments of arms name.

    Each with its kind: ``("model", "mynet.py:MyNet")``.
    """
    named: dict[tuple[str, str], None] = {}
    for experiment in experiments:
        models = [*(one.model for one in experiment.named_teachers.values())]
        models.append(experiment.student.model)
        names = (
            ("dataset", "dataset.name", experiment.dataset.name),
            *(("model", "student.model", without_detector(model)) for model in models),
            ("method", "method.name", experiment.method.name),
        )
        named |= {(kind, name): None for kind, key, name in names if _is_code(key, name)}
    return list(named)


def is_own_model(name: str) -> bool:
    """Whether a model's name names code of the user's."""
    return _is_code(MODEL_KEYS[0], name)


def _is_code(key: str, value: object) -> bool:
    """Whether a key's value names code to run, as ``package.module:name``."""
    key = TEACHERS_MODEL.sub("teacher.model", key)
    name = next((name for name in CODE_KEYS if f".{key}".endswith(f".{name}")), None)
    if name is None or not isinstance(value, str) or ":" not in value:
        return False
    if name not in MODEL_KEYS:
        return True
    model = without_detector(value)
    return ":" in model and not model.startswith(LIBRARY_PREFIXES)
