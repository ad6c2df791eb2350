"""Distillation losses as pure functions of tensors.

Shapes: B batch, C classes. Every scalar is a mean over the batch; logits may be float64, float32,
float16 or bfloat16 (the last two are computed in float32).
"""

from rkkd_cli.losses.divergence import kl_divergence, soft_cross_entropy
from rkkd_cli.losses.ranking import KendallRankingLoss, kendall_ranking_loss
from rkkd_cli.losses.surrogates import SURROGATES
from rkkd_cli.losses.tau import kendall_tau_b

__all__ = [
    "SURROGATES",
    "KendallRankingLoss",
    "kendall_ranking_loss",
    "kendall_tau_b",
    "kl_divergence",
    "soft_cross_entropy",
]
