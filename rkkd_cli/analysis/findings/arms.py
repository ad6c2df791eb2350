"""The arms that a claim compares: one logs the ranking loss (control), one backpropagates it."""

from typing import Any, NamedTuple

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import cell_settings, is_baseline
from rkkd_cli.config.tasks import HARD_TERMS


class ArmPair(NamedTuple):
    """Two arms that differ in the section ``rank`` only."""

    control: Arm
    treated: Arm

    @property
    def names(self) -> tuple[str, str]:
        """Control, treated."""
        return self.control.name, self.treated.name

    @property
    def rank_is_shared(self) -> bool:
        """Whether both record the ranking loss with the same settings."""
        return _rank_settings(self.control) == _rank_settings(self.treated)


def control_arms(experiment: Experiment) -> list[Arm]:
    """Return the arms that distil and log the ranking loss without its gradient."""
    return [
        arm
        for arm in experiment.resolved_arms
        if not (arm.experiment.rank.grad or is_baseline(arm.name))
        and arm.experiment.method.name not in HARD_TERMS
    ]


def rank_pairs(experiment: Experiment) -> list[ArmPair]:
    """Return each arm that backpropagates the ranking loss, with its control.

    Of several controls it is the first with the same ranking settings, else the first.
    """
    controls = control_arms(experiment)
    pairs = []
    for treated in experiment.resolved_arms:
        if treated.experiment.rank.grad:
            matching = [c for c in controls if _without_rank(c) == _without_rank(treated)]
            matching.sort(key=lambda c: _rank_settings(c) != _rank_settings(treated))
            pairs += [ArmPair(control, treated) for control in matching[:1]]
    return pairs


def _without_rank(arm: Arm) -> dict[str, Any]:
    return {key: value for key, value in cell_settings(arm.experiment).items() if key != "rank"}


def _rank_settings(arm: Arm) -> dict[str, Any]:
    return arm.experiment.rank.settings
