"""Which arms a rule compares: the ranking loss logged only (control), and backpropagated."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rkkd_cli.config.arms import Arm, resolve_arms
from rkkd_cli.config.experiment import Experiment, RankConfig
from rkkd_cli.config.grid import NOT_OF_A_CELL, is_baseline


class ArmPair(NamedTuple):
    """Two arms that differ in nothing but the section ``rank``."""

    control: Arm
    treated: Arm

    @property
    def names(self) -> tuple[str, str]:
        """Control, treated."""
        return self.control.name, self.treated.name

    @property
    def rank_is_shared(self) -> bool:
        """Tell whether both record the ranking loss at the same settings."""
        return _scale(self.control) == _scale(self.treated)


def controls(experiment: Experiment) -> list[Arm]:
    """Return the arms that log the ranking loss and distil without it."""
    return [
        arm
        for arm in resolve_arms(experiment)
        if not arm.experiment.rank.grad and not _is_without_kl(arm)
    ]


def rank_pairs(experiment: Experiment) -> list[ArmPair]:
    """Return each arm that backpropagates the ranking loss with its control.

    Of several controls, the one with the same ranking settings is taken, else the first.
    """
    logged = controls(experiment)
    pairs = []
    for arm in resolve_arms(experiment):
        if arm.experiment.rank.grad:
            alike = [one for one in logged if _rest(one) == _rest(arm)]
            alike.sort(key=lambda one: _scale(one) != _scale(arm))
            pairs += [ArmPair(one, arm) for one in alike[:1]]
    return pairs


def _is_without_kl(arm: Arm) -> bool:
    return is_baseline(arm.name) or arm.experiment.method.name == "ce"


def _rest(arm: Arm) -> dict[str, Any]:
    return arm.experiment.model_dump(exclude={*NOT_OF_A_CELL, "rank"})


def _scale(arm: Arm) -> Sequence[Any]:
    rank: RankConfig = arm.experiment.rank
    return rank.steepness, rank.surrogate, rank.channels
