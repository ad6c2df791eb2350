"""May a run that has begun go on as a given experiment? Only if its numbers stay the same."""

from collections.abc import Iterable
from typing import Any

from rkkd_cli.config.experiment import TOLD, Experiment, TrainingConfig
from rkkd_cli.config.grid import cell_hash, unrounded
from rkkd_cli.config.overrides import flatten
from rkkd_cli.config.value_lists import parse_axes
from rkkd_cli.errors import UserError

# What changes no number; the device is looked at where it is known.
WITHOUT_INFLUENCE = (*TOLD, "device", "decoders", "vary")
EPOCHS = "training.epochs"


def continued(recorded: Experiment, requested: Experiment, run: str) -> Experiment:
    """Return the experiment with which a run that began as ``recorded`` goes on.

    That is ``requested``, in which nothing may differ that influences the numbers; more epochs
    are allowed where the learning rate of an epoch does not depend on how many there are.
    Raises UserError that names the keys.
    """
    before, after = _influences(recorded), _influences(requested)
    keys = _differing(before, after)
    epochs = {EPOCHS, *(f"{_prefix(arm)}{EPOCHS}" for arm in recorded.arms)}
    longer = [k for k in keys if k in epochs and _is_more(before.get(k), after.get(k))]
    if longer != keys:
        raise UserError(
            f"run {run!r} was begun as another experiment; it differs in "
            f"{differences(recorded, requested)}: resume it without that, or start a new run"
        )
    if longer:
        _check_schedules(recorded, requested)
    arms = {name: requested.arms[name] for name in recorded.arms}
    return requested.model_copy(update={"arms": arms})


def extended(recorded: Experiment, requested: Experiment, run: str) -> Experiment:
    """Return the grid ``recorded`` with the cells and seeds of ``requested`` that it lacks.

    A cell is known again by its resolved experiment, whatever its arm is called. Raises UserError
    that names the keys where the base differs, or where other keys are varied.
    """
    if set(recorded.vary) != set(requested.vary):
        raise UserError(
            f"run {run!r} varies {_listed(recorded.vary)}, not {_listed(requested.vary)}; "
            "start a new run with another --name"
        )
    bare: dict[str, Any] = {"arms": {}, "seeds": ()}
    before, after = recorded.model_copy(update=bare), requested.model_copy(update=bare)
    if _influences(before) != _influences(after):
        raise UserError(
            f"run {run!r} was begun as another experiment; it differs in "
            f"{differences(before, after)}: leave that as it was, or start a new run with another "
            "--name"
        )
    known = {cell_hash(arm, 0) for arm in recorded.resolved_arms}
    arms = dict(recorded.arms)
    for arm in requested.resolved_arms:
        if cell_hash(arm, 0) not in known:
            name = arm.name if arm.name not in arms else f"cell-{cell_hash(arm, 0)}"
            arms[name] = requested.arms[arm.name]
    vary = {key: _united(values, requested.vary[key]) for key, values in recorded.vary.items()}
    seeds = tuple(dict.fromkeys([*recorded.seeds, *requested.seeds]))
    return recorded.model_copy(
        update={"arms": arms, "seeds": seeds, "vary": vary, "device": requested.device}
    )


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(keys) or "nothing"


def _united(values: Iterable[Any], others: Iterable[Any]) -> tuple[Any, ...]:
    """Return the values of both, each once, numbers in their order."""
    united = parse_axes({"key": [*values, *others]})["key"]
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in united)
    return tuple(sorted(united)) if numbers else united


def same_numbers(one: Experiment, other: Experiment) -> bool:
    """Tell whether two experiments differ only in what changes no number."""
    return _influences(one) == _influences(other)


def differences(one: Experiment, other: Experiment) -> str:
    """Return every key that influences the numbers and differs, with both values."""
    before, after = _influences(one), _influences(other)
    return ", ".join(
        f"{key} ({_told(before, key)} → {_told(after, key)})" for key in _differing(before, after)
    )


def _is_more(before: Any, after: Any) -> bool:
    return isinstance(before, int) and isinstance(after, int) and after > before


def _differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [key for key in {**before, **after} if before.get(key) != after.get(key)]


def _influences(experiment: Experiment) -> dict[str, Any]:
    excluded = {*WITHOUT_INFLUENCE, "arms"} | unrounded(experiment)
    flat = flatten(experiment.model_dump(mode="json", exclude=excluded))
    for name, overrides in experiment.arms.items():
        prefix = _prefix(name)
        flat |= {prefix.rstrip("."): "an arm"} | flatten(overrides, prefix)
    return flat


def _prefix(arm: str) -> str:
    """Return what the keys of an arm begin with; a name with a dot is quoted, as in TOML."""
    return f'arms."{arm}".' if "." in arm else f"arms.{arm}."


def _told(flat: dict[str, Any], key: str) -> str:
    return repr(flat[key]) if flat.get(key) is not None else "none"


def _check_schedules(recorded: Experiment, requested: Experiment) -> None:
    before = {arm.name: arm.experiment.training for arm in recorded.resolved_arms}
    for arm in requested.resolved_arms:
        training = arm.experiment.training
        if training.epochs != before[arm.name].epochs and depends_on_epochs(training):
            what = "milestones given as shares" if training.schedule == "step" else "the schedule"
            raise UserError(
                f"training.epochs = {training.epochs}: arm {arm.name} began with "
                f"{before[arm.name].epochs}, and with schedule = {training.schedule!r} {what} "
                "would make the epochs already trained different ones; only a constant schedule, "
                "or a step schedule with milestones in whole epochs, can go on for longer"
            )


def depends_on_epochs(training: TrainingConfig) -> bool:
    """Tell whether the learning rate of an epoch depends on how many epochs there are."""
    if training.schedule == "step":
        return any(value < 1 for value in training.milestones)
    return training.schedule != "constant"
