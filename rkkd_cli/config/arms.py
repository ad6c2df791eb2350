"""Arms: named overrides of the base experiment, resolved into whole experiments."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from rkkd_cli.config.experiment import (
    DESCRIPTIVE_KEYS,
    Experiment,
    MethodConfig,
    TrainingConfig,
)
from rkkd_cli.config.overrides import flatten, merge
from rkkd_cli.config.validation import experiment_from
from rkkd_cli.errors import UserError

# The keys that all arms of a run share.
SHARED_KEYS = (
    "task", "arms", "vary", "seeds", "device", "threads", "decoders", "deterministic", "stacked",
    "cuda_graph", "cache_teacher", "sync_batchnorm", *DESCRIPTIVE_KEYS,
)  # fmt: skip
SECTIONS = ("dataset", "teacher", "student", "training", "method", "rank", "triplet",
            "detection")  # fmt: skip


class Arm(NamedTuple):
    """An arm's name, and the experiment that it trains: the base with the arm's overrides."""

    name: str
    experiment: Experiment


def resolve_arms(experiment: Experiment) -> tuple[Arm, ...]:
    """Return every arm of ``experiment``, validated, without the texts that describe the run.

    Raises UserError that names the arm.
    """
    names = Experiment.model_fields.keys() - {"arms", "vary", *DESCRIPTIVE_KEYS}
    base = {name: getattr(experiment, name) for name in names}
    tables: dict[str, Any] = {
        name: value.model_dump() for name, value in base.items() if name in SECTIONS
    }
    tables["teachers"] = {name: one.model_dump() for name, one in experiment.teachers.items()}
    return tuple(
        Arm(name, _resolve(base, tables, name, overrides))
        for name, overrides in experiment.arms.items()
    )


def _resolve(
    base: dict[str, Any], tables: dict[str, Any], name: str, overrides: dict[str, Any]
) -> Experiment:
    """Return the base with the overrides. Only sections that they change are validated again."""
    for key in SHARED_KEYS:
        if key in overrides:
            raise UserError(f"arm {name!r} overrides {key!r}, which all arms of a run share")
    changed = {key: tables.get(key, base.get(key)) for key in overrides if key in base}
    return experiment_from(base | merge(changed, overrides), f"arm {name!r}")


def select_by_rank_grad(experiment: Experiment, choice: str) -> Experiment:
    """Return the experiment with the arms whose ``rank.grad`` is true (on), false (off), or both.

    Raises UserError for another choice, and if no arm is left.
    """
    if choice not in ("on", "off", "both"):
        raise UserError(f"--rank-grad is on, off or both, not {choice!r}")
    if choice == "both":
        return experiment
    kept = {
        arm.name: experiment.arms[arm.name]
        for arm in experiment.resolved_arms
        if arm.experiment.rank.grad == (choice == "on")
    }
    if not kept:
        raise UserError(
            f"--rank-grad {choice} leaves no arm: none of {', '.join(experiment.arms)} has "
            f"rank.grad = {str(choice == 'on').lower()}"
        )
    return experiment.model_copy(update={"arms": kept})


def check_overrides_take_effect(experiment: Experiment, keys: Iterable[str]) -> None:
    """Raise UserError for an overridden key that has no effect.

    Every arm sets it itself, or it is a setting of a method or an optimiser that no arm has.
    """
    for key in keys:
        _check_method_is_used(experiment, key)
        _check_momentum_is_used(experiment, key)
    keys_by_arm = [set(flatten(overrides)) for overrides in experiment.arms.values()]
    for key in keys:
        if key in experiment.vary or all(key in arm_keys for arm_keys in keys_by_arm):
            raise UserError(
                f"the arms set {key} themselves, so it has no effect here; "
                f"{_advice(experiment, key)}"
            )


def _check_method_is_used(experiment: Experiment, key: str) -> None:
    """Raise UserError for a setting such as ``method.dkd.beta`` if no arm has the method.

    The key may be that of one arm. ``method.plugin`` is the section of all methods of the user's.
    """
    arms, parts = _arms_and_parts(experiment, key)
    if parts[:1] != ["method"] or len(parts) < 3 or not arms:
        return
    section, names = parts[1], {arm.experiment.method.name for arm in arms}
    if section in MethodConfig.model_fields:  # the weights of several teachers
        return
    if section in names or (section == "plugin" and any(":" in name for name in names)):
        return
    missing = "of your own" if section == "plugin" else f"called {section}"
    choice = "mine.py:NAME" if section == "plugin" else section
    raise UserError(
        f"{key} has no effect: no arm has a method {missing}, but {', '.join(sorted(names))}; "
        f"choose it with --method {choice} (`rkkd ls methods` lists them), or leave {key} out"
    )


def _check_momentum_is_used(experiment: Experiment, key: str) -> None:
    """Raise UserError for momentum where no recipe has the optimiser that takes it."""
    arms, parts = _arms_and_parts(experiment, key)
    section, _, name = ".".join(parts).rpartition(".")
    if name not in ("momentum", "nesterov"):
        return
    recipes = [_recipe(arm.experiment, section) for arm in arms]
    optimizers = {recipe.optimizer for recipe in recipes if recipe is not None}
    if optimizers and "sgd" not in optimizers:
        raise UserError(
            f"{key} has no effect: it is sgd's, and {section}.optimizer is "
            f"{' or '.join(sorted(optimizers))}; leave it out"
        )


def _recipe(experiment: Experiment, section: str) -> TrainingConfig | None:
    """Return the recipe that ``training``, or a teacher's ``teacher.training``, is."""
    if section == "training":
        return experiment.training
    teachers = experiment.teacher_sections.items()
    return next((one.training for key, one in teachers if f"{key}.training" == section), None)


def _arms_and_parts(experiment: Experiment, key: str) -> tuple[tuple[Arm, ...], list[str]]:
    """Return the arms that a key is for, all or one, and its parts after the arm's name."""
    arms, parts = experiment.resolved_arms, key.split(".")
    if parts[0] == "arms" and len(parts) > 1:
        return tuple(arm for arm in arms if arm.name == parts[1]), parts[2:]
    return arms, parts


def _advice(experiment: Experiment, key: str) -> str:
    if key in experiment.vary:
        return f"`rkkd grid` takes its values, as --vary {key}=VALUES"
    return "use --rank-grad on or off" if key == "rank.grad" else f"set arms.NAME.{key}"
