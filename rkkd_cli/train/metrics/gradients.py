"""Logit diagnostics: how the gradients of ``kl`` and ``rank`` by the student's logits compare.

Both gradients are closed forms of the logits, of the raw, unweighted terms, and taken of every
arm whether it optimises them or not. Of each image, with the student's logits s, the teacher's t,
and the temperature T:

  ∂kl/∂s = T · (σ(s/T) − σ(t/T)),  ∂rank/∂s as in :mod:`rkkd_cli.losses.ranking`.

What is summed over images is chosen so that an epoch's numbers are those of the gradient of all
its images laid end to end, and no image without gradient leaves a hole.

Shapes: A arms, B batch, C classes.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rkkd_cli.losses.ranking import ranking_gradient_per_image
from rkkd_cli.methods import Objective
from rkkd_cli.train.metrics.batch import RankSettings, of_arms_ranked_alike, temperatures_of

# One batch in so many is looked at, the first of each epoch among them.
EVERY = 10

SUMS = ("kl_square", "rank_square", "product", "kl_mass", "kl_low", "rank_mass", "rank_low")


@torch.no_grad()
def diagnose(objectives: Sequence[Objective], students: Tensor, teacher: Tensor) -> Tensor:
    """Return the means over images of ``SUMS``, (A, 7), of logits (A, B, C) and (B, C).

    No number of an arm depends on the others, to the last bit.
    """
    students = students.float() if students.dtype.itemsize < 4 else students
    temperatures = temperatures_of(objectives, students)
    divergence = (students / temperatures).softmax(dim=2)
    divergence = (divergence - (teacher / temperatures).softmax(dim=2)) * temperatures
    ranking = _ranking_gradients(objectives, students, teacher)
    low = _lower_half(teacher)
    masses = (divergence.abs(), ranking.abs())
    per_image = [
        divergence.square().sum(dim=2),
        ranking.square().sum(dim=2),
        (divergence * ranking).sum(dim=2),
        *(values for mass in masses for values in (mass.sum(dim=2), (mass * low).sum(dim=2))),
    ]
    return torch.stack([one.mean(dim=1) for one in per_image], dim=1)


def _ranking_gradients(
    objectives: Sequence[Objective], students: Tensor, teacher: Tensor
) -> Tensor:
    def gradient(student: Tensor, taught: Tensor, settings: RankSettings) -> Tensor:
        return ranking_gradient_per_image(student, taught, *settings)

    teachers = teacher.expand(students.shape)
    return of_arms_ranked_alike(objectives, students, teachers, gradient)


def _lower_half(teacher: Tensor) -> Tensor:
    """Return 1 for the ⌊C/2⌋ channels (B, C) to which the teacher gives the lowest logits."""
    index = teacher.topk(teacher.shape[1] // 2, dim=1, largest=False).indices
    return torch.zeros_like(teacher).scatter_(1, index, 1.0)


def derived(means: Mapping[str, float]) -> dict[str, float | None]:
    """Return the columns of metrics.csv; None is what is not defined because a gradient is 0.

    Norms are root mean squares over images. ``grad_low_share`` is the share of the sum of
    absolute values that lies on the lower half of the channels, by the teacher's logits.
    """
    kl, rank = math.sqrt(means["kl_square"]), math.sqrt(means["rank_square"])
    return {
        "grad_norm_kl": kl,
        "grad_norm_rank": rank,
        "grad_cosine": _ratio(means["product"], kl * rank),
        "grad_low_share_kl": _ratio(means["kl_low"], means["kl_mass"]),
        "grad_low_share_rank": _ratio(means["rank_low"], means["rank_mass"]),
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
