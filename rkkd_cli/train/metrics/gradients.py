"""Logit diagnostics: the gradients of ``kl`` and ``rank`` by the student's logits, compared.

They are the gradients of the raw, unweighted terms, and are measured for every arm, whether or not
it optimises the terms. Both are closed forms. For one image with student logits s, teacher logits t
and temperature T:

  ∂kl/∂s = T · (σ(s/T) − σ(t/T)),  ∂rank/∂s as in :mod:`rkkd_cli.losses.ranking`.

Where only a teacher's top logits are kept, they are those of the KL divergence over K + 1 bins and
of the ranking of K classes. Which of the others have the lowest logits is not known then.

The sums over images are chosen such that an epoch's numbers are those of the concatenated
gradients of all its images, so an image without a gradient leaves no gap.

Shapes: A arms, B batch, C classes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.losses.live_pairs import live_pairs_per_image
from rkkd_cli.losses.ranking import ranking_gradient_per_image
from rkkd_cli.losses.tail_bin import TopLogits
from rkkd_cli.methods import Objective
from rkkd_cli.methods.objective import weighted_mean
from rkkd_cli.methods.teacher_outputs import AnyLogits, reference_logits, target_logits
from rkkd_cli.train.metrics.batch import (
    ComparedRows,
    compared_rows,
    map_ranking,
    temperatures,
)

# Every so many batches, beginning with the first of each epoch.
GRADIENT_LOG_INTERVAL = 10

GRADIENT_MEANS = (
    "kl_square", "rank_square", "product", "kl_mass", "kl_low", "rank_mass", "rank_low",
    "teacher_low", "live_pairs",
)  # fmt: skip


class Gradients(NamedTuple):
    """∂kl/∂s and ∂rank/∂s, the teacher's softened probabilities, (A, B, C); live pairs (A, B)."""

    kl: Tensor
    rank: Tensor
    targets: Tensor
    live_pairs: Tensor


@torch.no_grad()
def diagnose(objectives: Sequence[Objective], students: Tensor, teacher: AnyLogits) -> Tensor:
    """Return the means over images of ``GRADIENT_MEANS``, (A, 9), of logits (A, B, C) and (B, C).

    An arm's numbers do not depend on the other arms, bit for bit. Of several teachers with a share
    each, gradients and probabilities are the weighted sums, and the lowest channels are those of
    the weighted mean of their logits.
    """
    students = students.float() if students.dtype.itemsize < 4 else students
    if isinstance(teacher, Mapping):
        low = _lowest(torch.stack([reference_logits(one, teacher) for one in objectives]))
        kl, rank, targets, live_pairs = _of_several(objectives, students, teacher)
    else:
        rows = compared_rows(objectives, students, teacher)
        kl, rank, targets, live_pairs = _gradients(objectives, students, rows)
        if isinstance(teacher, TopLogits):
            low = students.new_full((), math.nan)
            rank = teacher.among_all(rank, students.shape[2])
        else:
            low = _lowest(teacher)
    kl_mass, rank_mass = kl.abs(), rank.abs()
    per_image = [
        kl.square().sum(dim=2),
        rank.square().sum(dim=2),
        (kl * rank).sum(dim=2),
        kl_mass.sum(dim=2),
        (kl_mass * low).sum(dim=2),
        rank_mass.sum(dim=2),
        (rank_mass * low).sum(dim=2),
        kl_mass.sum(dim=2) * (targets * low).sum(dim=2),
        live_pairs,
    ]
    return torch.stack([values.mean(dim=1) for values in per_image], dim=1)


def _lowest(teacher: Tensor) -> Tensor:
    """Return 1 for the ⌊C/2⌋ lowest of each row's logits (…, C), and 0 for the others."""
    lowest = teacher.topk(teacher.shape[-1] // 2, dim=-1, largest=False).indices
    return torch.zeros_like(teacher).scatter_(-1, lowest, 1.0)


def _gradients(objectives: Sequence[Objective], students: Tensor, rows: ComparedRows) -> Gradients:
    """Return the gradients by students (A, B, C), or by the rows that are ranked."""
    t = temperatures(objectives, students)
    targets = (rows.teachers / t).softmax(dim=2)
    return Gradients(
        kl=((students / t).softmax(dim=2) - targets) * t,
        rank=map_ranking(ranking_gradient_per_image, objectives, *rows.ranked),
        targets=targets,
        live_pairs=map_ranking(live_pairs_per_image, objectives, *rows.ranked),
    )


def _of_several(
    objectives: Sequence[Objective], students: Tensor, teachers: Mapping[str, Tensor]
) -> Gradients:
    """Return the gradients to what each arm learns from."""
    of_arms = []
    for student, objective in zip(students, objectives, strict=True):
        targets = [target_logits(name, teachers, objective) for name in objective.shares]
        repeated = student.expand(len(targets), *student.shape)
        taught = [objective] * len(targets)
        parts = _gradients(taught, repeated, compared_rows(taught, repeated, torch.stack(targets)))
        shares = [*objective.shares.values()]
        of_arms.append([weighted_mean(shares, part.unbind()) for part in parts])
    return Gradients(*map(torch.stack, zip(*of_arms, strict=True)))


def gradient_columns(means: Mapping[str, float]) -> dict[str, float | None]:
    """Return the columns of metrics.csv; None where a ratio is undefined, or unknown (NaN).

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
    is_known = denominator > 0 and not math.isnan(numerator)
    return numerator / denominator if is_known else None
