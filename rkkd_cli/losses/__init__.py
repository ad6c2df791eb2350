"""Distillation losses as pure functions of tensors.

Shapes: B batch, C classes, D features or channels, H × W positions. σ is the softmax over classes,
s is the student's and t the teacher's. Every scalar is a mean over the batch, unless its equation
says otherwise. Inputs may be float64, float32, float16 or bfloat16; the last two are computed in
float32. The gradient goes to the student only, unless the docstring says otherwise.

**Rows of logits.** A loss of logits takes (…, C): a row of C logits is an image, a token or a
region, and what the equations call the batch are all rows, B of them. Two keyword arguments say
which rows count, and how their mean is taken:

- ``mask`` (…), bool: the rows that count; None for all. They are the batch, also where rows are
  compared with each other. The others are read nowhere: they may hold NaN, their targets any
  number, and their gradient is 0. Without any row the loss is 0, and so is its gradient. The rows
  are gathered, so a GPU is waited for, and a CUDA graph can capture no loss with a mask.
- ``normalizer``: a number above 0, or a tensor without dimensions, whose sign is not checked. The
  loss is the mean over the B rows times B / ``normalizer``: of a mean over rows, their sum divided
  by ``normalizer``. So the parts of a batch add up to the whole, where gradients are accumulated.
"""

from rkkd_cli.losses.attention import attention_transfer_loss
from rkkd_cli.losses.blocks import in_blocks
from rkkd_cli.losses.contrastive import contrastive_log_z, contrastive_loss, updated_rows
from rkkd_cli.losses.ctkd import (
    curriculum_temperature,
    gradient_reversal,
    kl_at_temperature,
    reversal_strength,
)
from rkkd_cli.losses.darkrank import darkrank_loss
from rkkd_cli.losses.dist import dist_loss, dist_terms
from rkkd_cli.losses.divergence import kl_divergence, soft_cross_entropy
from rkkd_cli.losses.dkd import dkd_loss, dkd_terms
from rkkd_cli.losses.ensemble import mean_logits, mean_probabilities
from rkkd_cli.losses.geometry import match_sizes
from rkkd_cli.losses.hint import correctly_classified, feature_kl_loss, hint_loss
from rkkd_cli.losses.mlkd import (
    batch_level_loss,
    class_level_loss,
    instance_level_loss,
    low_confidence_classes,
    low_confidence_images,
    mlkd_terms,
)
from rkkd_cli.losses.pld import plackett_luce_loss
from rkkd_cli.losses.ranking import KendallRankingLoss, kendall_ranking_loss
from rkkd_cli.losses.review import hierarchical_context_loss
from rkkd_cli.losses.rkd import rkd_angle_loss, rkd_distance_loss
from rkkd_cli.losses.similarity import similarity_preserving_loss
from rkkd_cli.losses.standardize import standardize_logits
from rkkd_cli.losses.surrogates import SURROGATES
from rkkd_cli.losses.tail_bin import TopLogits, tail_bin_kl_divergence, top_logits
from rkkd_cli.losses.tau import kendall_tau_b
from rkkd_cli.losses.triplet import triplet_loss
from rkkd_cli.losses.vid import vid_log_scale, vid_loss

__all__ = [
    "SURROGATES",
    "KendallRankingLoss",
    "TopLogits",
    "attention_transfer_loss",
    "batch_level_loss",
    "class_level_loss",
    "contrastive_log_z",
    "contrastive_loss",
    "correctly_classified",
    "curriculum_temperature",
    "darkrank_loss",
    "dist_loss",
    "dist_terms",
    "dkd_loss",
    "dkd_terms",
    "feature_kl_loss",
    "gradient_reversal",
    "hierarchical_context_loss",
    "hint_loss",
    "in_blocks",
    "instance_level_loss",
    "kendall_ranking_loss",
    "kendall_tau_b",
    "kl_at_temperature",
    "kl_divergence",
    "low_confidence_classes",
    "low_confidence_images",
    "match_sizes",
    "mean_logits",
    "mean_probabilities",
    "mlkd_terms",
    "plackett_luce_loss",
    "reversal_strength",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "similarity_preserving_loss",
    "soft_cross_entropy",
    "standardize_logits",
    "tail_bin_kl_divergence",
    "top_logits",
    "triplet_loss",
    "updated_rows",
    "vid_log_scale",
    "vid_loss",
]
