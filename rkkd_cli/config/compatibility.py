"""Whether a run that has begun may go on as a given experiment: only with the same numbers."""

from typing import Any

from rkkd_cli.config.experiment import DESCRIPTION_KEYS, Experiment, TrainingConfig
from rkkd_cli.config.grid import cell_hash, neutral_keys
from rkkd_cli.config.overrides import flatten
from rkkd_cli.config.value_lists import parse_axes
from rkkd_cli.errors import UserError

EPOCHS = "training.epochs"


def continued_experiment(recorded: Experiment, requested: Experiment, run: str) -> Experiment:
    """Return the experiment as which a run goes on that began as ``recorded``.

    This is ``requested``, which may differ only in what changes no number. More epochs are allowed
    if the learning rate of an epoch does not depend on how many there are. Raises UserError that
    names the keys.
    """
    before, after = _influential_values(recorded), _influential_values(requested)
    keys = _differing_keys(before, after)
    epoch_keys = {EPOCHS, *(f"{_arm_prefix(arm)}{EPOCHS}" for arm in recorded.arms)}
    extended = [k for k in keys if k in epoch_keys and _is_more(before.get(k), after.get(k))]
    if extended != keys:
        raise UserError(
            f"run {run!r} was begun as another experiment; it differs in "
            f"{differences(recorded, requested)}: resume it without that, or start a new run"
        )
    if extended:
        _check_schedules(recorded, requested)
    arms = {name: requested.arms[name] for name in recorded.arms}
    return requested.model_copy(update={"arms": arms})


def extended_grid(recorded: Experiment, requested: Experiment, run: str) -> Experiment:
    """Return the grid ``recorded`` with the cells and seeds of ``requested`` that it lacks.

    Cells are compared by their resolved experiments, not by the names of their arms. Raises
    UserError that names the keys if the base differs, or if other keys are varied.
    """
    if set(recorded.vary) != set(requested.vary):
        before, after = (", ".join(grid.vary) or "nothing" for grid in (recorded, requested))
        raise UserError(
            f"run {run!r} varies {before}, not {after}; start a new run with another --name"
        )
    no_cells: dict[str, Any] = {"arms": {}, "seeds": ()}
    old_base, new_base = (grid.model_copy(update=no_cells) for grid in (recorded, requested))
    if not same_numbers(old_base, new_base):
        raise UserError(
            f"run {run!r} was begun as another experiment; it differs in "
            f"{differences(old_base, new_base)}: leave that as it was, or start a new run with "
            "another --name"
        )
    known = {cell_hash(arm, 0) for arm in recorded.resolved_arms}
    arms = dict(recorded.arms)
    for arm in requested.resolved_arms:
        if cell_hash(arm, 0) not in known:
            name = arm.name if arm.name not in arms else f"cell-{cell_hash(arm, 0)}"
            arms[name] = requested.arms[arm.name]
    vary = {key: _union(values, requested.vary[key]) for key, values in recorded.vary.items()}
    seeds = tuple(dict.fromkeys([*recorded.seeds, *requested.seeds]))
    texts = {key: getattr(requested, key) for key in DESCRIPTION_KEYS}
    return recorded.model_copy(
        update={"arms": arms, "seeds": seeds, "vary": vary, "device": requested.device, **texts}
    )


def _union(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the values of both without duplicates; numbers are sorted."""
    values: tuple[Any, ...] = parse_axes({"key": [*first, *second]})["key"]
    are_numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return tuple(sorted(values)) if are_numbers else values


def same_numbers(first: Experiment, second: Experiment) -> bool:
    """Whether two experiments differ only in what changes no number."""
    return _influential_values(first) == _influential_values(second)


def differences(before: Experiment, after: Experiment) -> str:
    """Return every key that differs and influences the numbers, with both values."""
    old, new = _influential_values(before), _influential_values(after)
    # A key may change numbers with one of its values alone, as cache_teacher does.
    all_old, all_new = (
        flatten(one.model_dump(mode="json", exclude={"arms"})) | values
        for one, values in ((before, old), (after, new))
    )
    return ", ".join(
        f"{key} ({_format_value(all_old.get(key))} → {_format_value(all_new.get(key))})"
        for key in _differing_keys(old, new)
    )


def _format_value(value: Any) -> str:
    return "none" if value is None else repr(value)


def _is_more(before: Any, after: Any) -> bool:
    return isinstance(before, int) and isinstance(after, int) and after > before


def _differing_keys(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [key for key in {**before, **after} if before.get(key) != after.get(key)]


def _influential_values(experiment: Experiment) -> dict[str, Any]:
    """Return the keys that numbers depend on, flat, with those of the arms."""
    excluded = neutral_keys(experiment) | {"arms"}
    flat = flatten(experiment.model_dump(mode="json", exclude=excluded))
    for name, overrides in experiment.arms.items():
        prefix = _arm_prefix(name)
        flat |= {prefix.rstrip("."): "an arm"} | flatten(overrides, prefix)
    return flat


def _arm_prefix(arm: str) -> str:
    """Return the beginning of an arm's keys. A name with a dot is quoted, as in TOML."""
    return f'arms."{arm}".' if "." in arm else f"arms.{arm}."


def _check_schedules(recorded: Experiment, requested: Experiment) -> None:
    """Raise UserError for an arm whose finished epochs depend on the number of epochs."""
    before = {arm.name: arm.experiment.training for arm in recorded.resolved_arms}
    for arm in requested.resolved_arms:
        training = arm.experiment.training
        if training.epochs != before[arm.name].epochs and _depends_on_epochs(training):
            cause = "milestones given as shares" if training.schedule == "step" else "the schedule"
            raise UserError(
                f"training.epochs = {training.epochs}: arm {arm.name} began with "
                f"{before[arm.name].epochs}, and with schedule = {training.schedule!r} {cause} "
                "would change the learning rates of the epochs already trained; only a constant "
                "schedule, or a step schedule with milestones in whole epochs, can go on for longer"
            )


def _depends_on_epochs(training: TrainingConfig) -> bool:
    """Whether the learning rate of an epoch depends on how many epochs there are."""
    if training.schedule == "step":
        return any(value < 1 for value in training.milestones)
    return training.schedule != "constant"
