"""The terms and metrics of a batch, for all arms at once.

Shapes: A arms, B batch, C classes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.data.targets import Targets
from rkkd_cli.losses.divergence import (
    LARGE_TEMPERATURE,
    kl_at_any_temperature,
    kl_per_image,
)
from rkkd_cli.losses.kernels.torch_blocks import PAIRS_PER_BLOCK
from rkkd_cli.losses.ranked_rows import RankingSettings
from rkkd_cli.losses.ranking import ranking_per_image
from rkkd_cli.losses.tau import tau_b_per_image
from rkkd_cli.methods.objective import SHARED_TERMS, Objective

MEANS = (*SHARED_TERMS, "kendall_tau")
CORRECT = ("agreement", "acc", "top5")

RankingFunction = Callable[[Tensor, Tensor, RankingSettings], Tensor]


class BatchMetrics(NamedTuple):
    """Batch means (A, 4) in the order of ``MEANS``, and counts of images (A, 3) of ``CORRECT``.

    ``agreement`` counts the images for which student and teacher predict the same class. With
    fewer than five classes, ``top5`` considers all of them.
    """

    means: Tensor
    correct: Tensor


@torch.no_grad()
def measure(
    objectives: Sequence[Objective],
    students: Tensor,
    teacher: Tensor,
    targets: Targets,
    smoothings: Sequence[float] = (),
) -> BatchMetrics:
    """Return the metrics of student logits (A, B, C), teacher logits (B, C) and targets.

    ``smoothings``: the label smoothing in each arm's cross-entropy; none by default. The accuracy
    of mixed images counts the class with the larger share.

    An arm's numbers do not depend on the other arms, bit for bit: everything is computed image by
    image, and arm by arm where the pairs of classes would be split into blocks.
    """
    students = students.float() if students.dtype.itemsize < 4 else students
    teachers = teacher.expand(students.shape)
    cross_entropy = _cross_entropy(students, targets, smoothings)
    is_large = max(objective.temperature for objective in objectives) > LARGE_TEMPERATURE
    kl = kl_at_any_temperature if is_large else kl_per_image
    divergence = kl(students, teachers, temperatures(objectives, students))
    ranking = map_ranking(ranking_per_image, objectives, students, teachers)
    per_image = torch.stack([cross_entropy, divergence, ranking, kendall_tau(students, teachers)])
    return BatchMetrics(per_image.mean(dim=2).T, _count_correct(students, teacher, targets.labels))


def _cross_entropy(students: Tensor, targets: Targets, smoothings: Sequence[float]) -> Tensor:
    """Return the cross-entropy of each arm and image, (A, B), of logits (A, B, C)."""
    if any(smoothings):
        pairs = zip(students, smoothings, strict=True)
        return torch.stack([targets.cross_entropy(*pair, reduction="none") for pair in pairs])
    joined = targets.repeat(len(students)).cross_entropy(students.flatten(0, 1), reduction="none")
    return joined.view(students.shape[:2])


def temperatures(objectives: Sequence[Objective], like: Tensor) -> Tensor:
    """Return the arms' temperatures (A, 1, 1), with the dtype and on the device of ``like``.

    They are filled in on the device: a copy from the CPU would make a GPU wait.
    """
    return torch.cat([like.new_full((1, 1, 1), objective.temperature) for objective in objectives])


def map_ranking(
    function: RankingFunction, objectives: Sequence[Objective], students: Tensor, teachers: Tensor
) -> Tensor:
    """Return ``function`` of the logits of each arm, with its settings of the ranking loss.

    Takes logits (A, B, C). Arms with the same settings are computed together as far as possible.
    Where images are ranked, that is not: those of several arms would be one batch.
    """
    arms_of: dict[RankingSettings, list[int]] = {}
    for arm, objective in enumerate(objectives):
        arms_of.setdefault(objective.ranking.settings, []).append(arm)
    values: dict[int, Tensor] = {}
    for settings, arms in arms_of.items():
        one_by_one = [[arm] for arm in arms]
        ranks_images = settings.over != "classes"
        for block in one_by_one if ranks_images else _arm_blocks(arms, students):
            student, teacher = _concatenate(students, block), _concatenate(teachers, block)
            joined = function(student, teacher, settings)
            values |= zip(block, joined.chunk(len(block)), strict=True)
    return torch.stack([values[arm] for arm in sorted(values)])


def kendall_tau(students: Tensor, teachers: Tensor) -> Tensor:
    """Return τ-b of each arm and image, (A, B), of logits (A, B, C)."""
    values = [
        tau_b_per_image(_concatenate(students, block), _concatenate(teachers, block))
        for block in _arm_blocks(range(len(students)), students)
    ]
    return torch.cat(values).view(students.shape[:2])


def _concatenate(logits: Tensor, arms: Sequence[int]) -> Tensor:
    """Return the rows of the arms, one arm after another. An index would make a GPU wait."""
    return torch.cat([logits[arm] for arm in arms])


def _arm_blocks(arms: Sequence[int], students: Tensor) -> Iterator[list[int]]:
    """Yield the arms in groups whose pairs of classes fit into one block, or one by one."""
    _, images, classes = students.shape
    size = max(1, PAIRS_PER_BLOCK // (images * classes**2))
    for start in range(0, len(arms), size):
        yield list(arms[start : start + size])


def _count_correct(students: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    top5 = students.topk(min(5, students.shape[2]), dim=2).indices
    agreement = (top5[..., 0] == teacher.argmax(dim=1)).sum(dim=1)
    accuracy = (top5[..., 0] == labels).sum(dim=1)
    in_top5 = (top5 == labels[:, None]).sum(dim=(1, 2))
    return torch.stack([agreement, accuracy, in_top5], dim=1)
