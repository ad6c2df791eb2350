"""Several teachers by name, and what of them an arm learns from, its target.

A target is the name of one teacher, the mean of all, or a share for each. Targets are also the
names of columns of metrics.csv: ``kl_resnet56``, ``rank_mean_logits``.
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from rkkd_cli.config.overrides import is_unset
from rkkd_cli.errors import UserError, unknown_name

TEACHER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}")
MEAN_LOGITS, MEAN_PROBABILITIES = "mean_logits", "mean_probabilities"
MEANS = {MEAN_LOGITS: "the mean of logits", MEAN_PROBABILITIES: "the mean of probabilities"}

Target = str | dict[str, float]


def named_teachers(entries: Any, where: str) -> Any:
    """Return ``[[teachers]]`` by name; what is no list of sections is returned unchanged.

    An entry without a ``name`` is called as its model; the second of a name ends in ``_2``. Raises
    UserError, which begins with ``where``, for a name that is no text, or that is given twice.
    """
    if not isinstance(entries, list) or not all(isinstance(one, Mapping) for one in entries):
        return entries
    given = [one.get("name") for one in entries]
    for name in given:
        if not isinstance(name, str | None):
            raise UserError(f"{where}: a teacher has the name {name!r}, which is no text")
        if name is not None and given.count(name) > 1:
            raise UserError(f"{where}: two teachers have the name {name!r}; rename one of them")
    teachers: dict[str, Any] = {}
    for name, entry in zip(given, entries, strict=True):
        if name is None:
            name = _name_of(entry.get("model"), {*given, *teachers})
        teachers[name] = {key: value for key, value in entry.items() if key != "name"}
    return teachers


def _name_of(model: object, taken: Collection[object]) -> str:
    """Return ``MyNet`` for ``mynet.py:MyNet``, or the first free one of ``MyNet_2`` and so on."""
    text = re.sub(r"\W", "_", str(model).rpartition(":")[2], flags=re.ASCII)
    base = name = text.strip("_")[:60] or "teacher"
    number = 1
    while name in taken or name in MEANS:
        number += 1
        name = f"{base}_{number}"
    return name


def check_typed_teachers(table: Mapping[str, Any], typed: Collection[str]) -> None:
    """Raise UserError for a typed key of a teacher that the experiment's file does not have."""
    teachers = table.get("teachers") or {}
    names = [*teachers] if isinstance(teachers, Mapping) else []
    for key in typed:
        section, _, rest = key.partition(".")
        name, _, setting = rest.partition(".")
        if section == "teacher" and names:
            raise UserError(
                f"{key}: the experiment has several teachers, {', '.join(names)}; set "
                f"teachers.{names[0]}.{rest or 'KEY'}, or that of another"
            )
        if section != "teachers" or not setting or name in names:
            continue
        if names and f"teachers.{name}.model" not in typed:
            raise unknown_name("teacher", name, names)
        if not names and f"teachers.{name}.model" not in typed:
            raise UserError(f"{key}: the experiment has one teacher; set teacher.{setting}")


def parse_target(value: Any) -> Target | None:
    """Return what an arm learns from, as it is typed. Raises ValueError."""
    if value is None or (isinstance(value, str) and value):
        return value
    if not isinstance(value, Mapping) or not value:
        raise ValueError(
            f"must be the name of a teacher, {' or '.join(MEANS)}, or a weight for each, such as "
            "{ resnet56 = 0.7, vgg13 = 0.3 }"
        )
    return {name: float(one) if type(one) is int else one for name, one in value.items()}


def shares_of(target: Target) -> dict[str, float]:
    """Return the share of each teacher or mean that an arm learns from; they sum to 1.

    So the weights of KL and of the ranking loss mean what they do with one teacher.
    """
    if isinstance(target, str):
        return {target: 1.0}
    total = math.fsum(target.values())
    return {name: weight / total for name, weight in target.items() if weight}


def target_text(target: Target) -> str:
    """Return a target in words: ``resnet56``, ``the mean of logits``, ``0.7·a + 0.3·b``."""
    if isinstance(target, str):
        return MEANS.get(target, target)
    return " + ".join(f"{share:.4g}·{name}" for name, share in shares_of(target).items())


def targets_of(names: Collection[str]) -> tuple[str, ...]:
    """Return the targets that columns are about: each teacher and their means; of one, none."""
    return (*names, *MEANS) if len(names) > 1 else ()


def target_columns(names: Collection[str]) -> tuple[str, ...]:
    """Return the terms of several teachers: ``kl_…`` and ``rank_…`` of each target."""
    return tuple(f"{term}_{target}" for term in ("kl", "rank") for target in targets_of(names))


def default_target(names: Collection[str]) -> str:
    """Return what an arm learns from that does not say it: the only teacher, or the usual mean.

    Hinton et al., arXiv 1503.02531, and You et al., KDD 2017, average the soft targets.
    """
    return MEAN_PROBABILITIES if len(names) > 1 else next(iter(names))


def choose_among_teachers(table: Any) -> Any:
    """Return an experiment's table with what its method learns from, and ``teacher``: that one.

    ``teacher`` is the first of several where their mean is learnt from. What has no ``teachers`` is
    returned unchanged. Raises ValueError if a ``teacher`` is given beside them.
    """
    teachers = table.get("teachers") if isinstance(table, Mapping) else None
    if not isinstance(teachers, Mapping) or not teachers:
        return table
    if isinstance(table.get("teacher"), Mapping):  # not a section that was chosen here before
        raise ValueError(
            f"teacher and teachers ({', '.join(teachers)}) are both given; keep one of them"
        )
    method = table.get("method", {})
    values = method.model_dump() if isinstance(method, BaseModel) else method
    target = values.get("teacher") if isinstance(values, Mapping) else None
    if target is None or is_unset(target):
        target = default_target(teachers)
        if isinstance(values, Mapping):
            method = {**values, "teacher": target}
    is_one = isinstance(target, str) and target in teachers
    chosen = teachers[target if is_one else next(iter(teachers))]
    return {**table, "method": method, "teacher": chosen}


def check_names(names: Collection[str]) -> None:
    """Raise ValueError for a name that no teacher can have."""
    for name in names:
        if name in MEANS or not TEACHER_NAME.fullmatch(name):
            raise ValueError(
                f"must have names of letters, digits and _, at most 64, which are not "
                f"{' or '.join(MEANS)}; got {name!r}"
            )


def check_target(target: Target | None, names: Collection[str]) -> None:
    """Raise PydanticCustomError for what an arm cannot learn from."""
    if problem := _target_problem(target, names):
        raise PydanticCustomError("target", problem, {"name": "method.teacher"})


def _target_problem(target: Target | None, names: Collection[str]) -> str:
    """Return what is wrong with a target, or an empty text."""
    if target is None:
        return ""
    if not names:
        return (
            "it chooses among several teachers, and the experiment has one; name several in "
            "[[teachers]]"
        )
    if isinstance(target, str):
        known = target in names or target in MEANS
        return "" if known else str(unknown_name("teacher", target, [*names, *MEANS]))
    for name, weight in target.items():
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if name not in names:
            return str(unknown_name("teacher", name, names))
        if not is_number or not math.isfinite(weight) or weight < 0:
            return f"the weight of {name} must be a number from 0 on; got {weight!r}"
    total = math.fsum(target.values())
    has_sum = 0 < total < math.inf
    return "" if has_sum else f"the weights sum to {total:g}; make one of them greater than 0"
