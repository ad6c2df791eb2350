"""Arms: named overrides of the base experiment, resolved into whole experiments."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from rkkd_cli.config.experiment import DESCRIPTIVE_KEYS, Experiment
from rkkd_cli.config.overrides import flatten, merge
from rkkd_cli.config.validation import experiment_from
from rkkd_cli.errors import UserError

# The keys that all arms of a run share.
SHARED_KEYS = (
    "arms", "vary", "seeds", "device", "threads", "decoders", "deterministic", "stacked",
    "cuda_graph", "cache_teacher", "sync_batchnorm", *DESCRIPTIVE_KEYS,
)  # fmt: skip


class Arm(NamedTuple):
    """An arm's name, and the experiment that it trains: the base with the arm's overrides."""

    name: str
    experiment: Experiment


def resolve_arms(experiment: Experiment) -> tuple[Arm, ...]:
    """Return every arm of ``experiment``, validated. Raises UserError that names the arm."""
    base = experiment.model_dump(exclude={"arms", "vary"})
    return tuple(
        Arm(name, _resolve(base, name, overrides)) for name, overrides in experiment.arms.items()
    )


def _resolve(base: dict[str, Any], name: str, overrides: dict[str, Any]) -> Experiment:
    for key in SHARED_KEYS:
        if key in overrides:
            raise UserError(f"arm {name!r} overrides {key!r}, which all arms of a run share")
    return experiment_from(merge(base, overrides), f"arm {name!r}")


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
    """Raise UserError for an overridden key of the base that every arm sets itself."""
    keys_by_arm = [set(flatten(overrides)) for overrides in experiment.arms.values()]
    for key in keys:
        if key in experiment.vary or all(key in arm_keys for arm_keys in keys_by_arm):
            raise UserError(
                f"the arms set {key} themselves, so it has no effect here; "
                f"{_advice(experiment, key)}"
            )


def _advice(experiment: Experiment, key: str) -> str:
    if key in experiment.vary:
        return f"`rkkd grid` takes its values, as --vary {key}=VALUES"
    return "use --rank-grad on or off" if key == "rank.grad" else f"set arms.NAME.{key}"
