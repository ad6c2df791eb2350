"""DarkRank: the likelihood of the order in which the teacher sees an image's neighbours."""

import torch
from torch import Tensor

from rkkd_cli.losses.checks import paired_batches, without_autocast
from rkkd_cli.losses.geometry import pairwise_distances
from rkkd_cli.losses.pld import negative_log_draws


@without_autocast
def darkrank_loss(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    alpha: float = 3.0,
    beta: float = 3.0,
    length: int = 4,
) -> Tensor:
    """Return the negative log-likelihood of the teacher's nearest neighbours, in nats.

    Of each image i of the batch, π has the ``length`` other images that are nearest to the teacher,
    the nearest first. With the score s_j = −alpha·‖e_i − e_j‖^beta of the student's embedding e:

      L = 1/B · Σ_i Σ_k (log Σ_{l ≥ k} exp s_π(l) − s_π(k))

    That is the hard form of the paper. The gradient goes to the student only.

    Args:
        student_embedding: e, (B, D).
        teacher_embedding: (B, D′).
        alpha: scale of the scores.
        beta: power of the distances.
        length: neighbours in the order, at most B − 1.

    Raises:
        ValueError: these are not two floating-point embeddings of one batch.

    Source: Chen et al., arXiv 1707.01220, with the settings of RKD's code.

    """
    student, teacher = paired_batches(student_embedding, teacher_embedding)
    scores = -alpha * pairwise_distances(student.flatten(1)).pow(beta)
    to_others = pairwise_distances(teacher.flatten(1)).fill_diagonal_(torch.inf)
    order = to_others.argsort(dim=1, stable=True)[:, : min(length, len(student) - 1)]
    return negative_log_draws(scores.gather(1, order)).sum(dim=1).mean()
