"""Distillation methods: which terms an arm optimises, and with which weights."""

from collections.abc import Callable

from rkkd_cli.config.experiment import Method, Rank
from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.losses import KendallRankingLoss
from rkkd_cli.methods.kd import ce_weights, kd_weights, soft_ce_weights
from rkkd_cli.methods.objective import Objective

__all__ = ["METHODS", "Objective", "build_objective"]

METHODS: dict[str, Callable[[Method], dict[str, float]]] = {
    "ce": ce_weights,
    "kd": kd_weights,
    "soft_ce": soft_ce_weights,
}


def build_objective(method: Method, rank: Rank) -> Objective:
    """Return the terms and weights of an arm; the ranking loss weighs nothing without its grad.

    Raises UserError for an unknown method, surrogate or choice of channels.
    """
    if method.name not in METHODS:
        raise unknown_name("method", method.name, METHODS)
    weights = METHODS[method.name](method)
    if rank.grad:
        weights["rank"] = rank.weight
    if not any(weights.values()):
        raise UserError(
            "an arm has nothing to optimise: all its weights are 0; raise ce_weight, kl_weight or "
            "rank.weight"
        )
    ranking = KendallRankingLoss(rank.steepness, rank.surrogate, rank.channels)
    return Objective(weights=weights, temperature=method.temperature, ranking=ranking)
