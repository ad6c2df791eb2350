"""Logit diagnostics: the gradients of ``kl`` and ``rank`` by the student's logits, compared.

They are the gradients of the raw, unweighted terms, and are measured for every arm, whether or not
it optimises the terms. Both are closed forms. For one image with student logits s, teacher logits t
and temperature T:

  ∂kl/∂s = T · (σ(s/T) − σ(t/T)),  ∂rank/∂s as in :mod:`rkkd_cli.losses.ranking`.

The sums over images are chosen such that an epoch's numbers are those of the concatenated
gradients of all its images, so an image without a gradient leaves no gap.

Shapes: A arms, B batch, C classes.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rkkd_cli.losses.live_pairs import live_pairs_per_image
from rkkd_cli.losses.ranking import ranking_gradient_per_image
from rkkd_cli.methods import Objective
from rkkd_cli.train.metrics.batch import map_ranking, temperatures

# Every so many batches, beginning with the first of each epoch.
GRADIENT_LOG_INTERVAL = 10

GRADIENT_MEANS = (
    "kl_square", "rank_square", "product", "kl_mass", "kl_low", "rank_mass", "rank_low",
    "teacher_low", "live_pairs",
)  # fmt: skip


@torch.no_grad()
def diagnose(objectives: Sequence[Objective], students: Tensor, teacher: Tensor) -> Tensor:
    """Return the means over images of ``GRADIENT_MEANS``, (A, 9), of logits (A, B, C) and (B, C).

    An arm's numbers do not depend on the other arms, bit for bit.
    """
    students = students.float() if students.dtype.itemsize < 4 else students
    t = temperatures(objectives, students)
    targets = (teacher / t).softmax(dim=2)
    divergence = ((students / t).softmax(dim=2) - targets) * t
    teachers = teacher.expand(students.shape)
    ranking = map_ranking(ranking_gradient_per_image, objectives, students, teachers)
    live_pairs = map_ranking(live_pairs_per_image, objectives, students, teachers)
    lowest = teacher.topk(teacher.shape[1] // 2, dim=1, largest=False).indices
    low = torch.zeros_like(teacher).scatter_(1, lowest, 1.0)
    kl_mass, rank_mass = divergence.abs(), ranking.abs()
    per_image = [
        divergence.square().sum(dim=2),
        ranking.square().sum(dim=2),
        (divergence * ranking).sum(dim=2),
        kl_mass.sum(dim=2),
        (kl_mass * low).sum(dim=2),
        rank_mass.sum(dim=2),
        (rank_mass * low).sum(dim=2),
        kl_mass.sum(dim=2) * (targets * low).sum(dim=2),
        live_pairs,
    ]
    return torch.stack([values.mean(dim=1) for values in per_image], dim=1)


def gradient_columns(means: Mapping[str, float]) -> dict[str, float | None]:
    """Return the columns of metrics.csv; None where a gradient of 0 leaves a ratio undefined.

    Norms are root mean squares over images. ``grad_low_share`` is the share of the sum of
    absolute values on the ⌊C/2⌋ channels to which the teacher gives the lowest logits. That of the
    teacher is the part of σ(t/T) there, each image weighted by the absolute values of its kl
    gradient, so it is what ``grad_low_share_kl`` would be if these were in proportion to σ(t/T).
    ``grad_live_pairs`` is the share of pairs of :func:`live_pairs_per_image`.
    """
    kl, rank = math.sqrt(means["kl_square"]), math.sqrt(means["rank_square"])
    return {
        "grad_norm_kl": kl,
        "grad_norm_rank": rank,
        "grad_cosine": _ratio(means["product"], kl * rank),
        "grad_low_share_kl": _ratio(means["kl_low"], means["kl_mass"]),
        "grad_low_share_rank": _ratio(means["rank_low"], means["rank_mass"]),
        "grad_low_share_teacher": _ratio(means["teacher_low"], means["kl_mass"]),
        "grad_live_pairs": means["live_pairs"],
    }


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None
