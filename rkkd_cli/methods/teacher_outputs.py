"""What an arm learns from: a teacher's outputs, what is kept of them, or those of several by name.

Shapes: M teachers, B batch, C classes.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from rkkd_cli.config.teachers import MEAN_LOGITS
from rkkd_cli.losses import TopLogits
from rkkd_cli.losses.ensemble import mean_logits, mean_probabilities
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.methods.objective import Objective, weighted_mean
from rkkd_cli.models import Features

Logits = Tensor | Mapping[str, Tensor]  # (B, C) of the only teacher, or of each of several
AnyLogits = Logits | TopLogits  # or what is kept of them
Outputs = Features | TopLogits | Mapping[str, Features]


def weighted_targets(objective: Objective, outputs: Outputs) -> list[tuple[float, Features]]:
    """Return what the objective learns from, each with its share; the shares sum to 1."""
    if isinstance(outputs, Features):
        return [(1.0, outputs)]
    if isinstance(outputs, TopLogits):
        return [(1.0, logits_only(outputs.logits[:, :0]))]
    return [
        (share, outputs[name] if name in outputs else _mean(name, outputs, objective))
        for name, share in objective.shares.items()
    ]


def _mean(name: str, outputs: Mapping[str, Features], objective: Objective) -> Features:
    logits = {teacher: features.logits for teacher, features in outputs.items()}
    return logits_only(target_logits(name, logits, objective))


def target_logits(name: str, logits: Mapping[str, Tensor], objective: Objective) -> Tensor:
    """Return the logits (B, C) of a teacher, or their mean at the objective's temperature."""
    if name in logits:
        return logits[name]
    stacked = torch.stack([*logits.values()])
    if name == MEAN_LOGITS:
        return mean_logits(stacked)
    return mean_probabilities(stacked, objective.temperature)


def reference_logits(objective: Objective, logits: Mapping[str, Tensor]) -> Tensor:
    """Return the one set of logits (B, C) that stands for what the objective learns from.

    That of several teachers with a share each is the weighted mean of their logits.
    """
    shares = objective.shares
    parts = [target_logits(name, logits, objective) for name in shares]
    return weighted_mean([*shares.values()], parts)


def logits_of(outputs: Outputs) -> AnyLogits:
    """Return the logits of the only teacher, what is kept of them, or those of each of several."""
    if isinstance(outputs, Features):
        return outputs.logits
    if isinstance(outputs, TopLogits):
        return outputs
    return {name: features.logits for name, features in outputs.items()}
