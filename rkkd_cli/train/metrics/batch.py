"""The terms and metrics of a batch, for all arms at once.

Shapes: A arms, B batch, C classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.config.teachers import targets_of
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
from rkkd_cli.methods.objective import SHARED_TERMS, Objective, weighted_mean
from rkkd_cli.methods.teacher_outputs import Logits, reference_logits, target_logits

MEANS = (*SHARED_TERMS, "kendall_tau")
CORRECT = ("agreement", "acc", "top5")

RankingFunction = Callable[[Tensor, Tensor, RankingSettings], Tensor]


class BatchMetrics(NamedTuple):
    """Batch means (A, 4) in the order of ``MEANS``, and counts of images (A, 3) of ``CORRECT``.

    With several teachers, the means of ``target_columns`` follow. ``agreement`` counts the images
    for which student and teacher predict the same class. With fewer than five classes, ``top5``
    considers all of them.
    """

    means: Tensor
    correct: Tensor


@torch.no_grad()
def measure(
    objectives: Sequence[Objective],
    students: Tensor,
    teacher: Logits,
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
    if isinstance(teacher, Mapping):
        return _measure_several(objectives, students, teacher, targets, smoothings)
    teachers = teacher.expand(students.shape)
    cross_entropy = _cross_entropy(students, targets, smoothings)
    divergence = _divergence(objectives, students, teachers)
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


def _measure_several(
    objectives: Sequence[Objective],
    students: Tensor,
    teachers: Mapping[str, Tensor],
    targets: Targets,
    smoothings: Sequence[float],
) -> BatchMetrics:
    """Return the metrics to what each arm learns from, and KL and ranking loss to each target.

    KL, ranking loss and τ of an arm with a share of several teachers are the weighted sums;
    ``agreement`` is that with the weighted mean of their logits.
    """
    names = targets_of(teachers)
    repeated = [objective for objective in objectives for _ in names]
    of_arms = students.repeat_interleave(len(names), dim=0)
    taught = torch.stack(
        [target_logits(name, teachers, objective) for objective in objectives for name in names]
    )
    kl = _divergence(repeated, of_arms, taught).mean(dim=1).view(len(students), -1)
    ranking = map_ranking(ranking_per_image, repeated, of_arms, taught).mean(dim=1).view_as(kl)
    cross_entropy = _cross_entropy(students, targets, smoothings).mean(dim=1)
    means = []
    for arm, objective in enumerate(objectives):
        learnt = {names.index(name): share for name, share in objective.shares.items()}
        rows = taught.view(len(students), len(names), *taught.shape[1:])[arm]
        tau = {n: kendall_tau(students[arm][None], rows[n][None]).mean() for n in learnt}
        values = [(kl[arm, n], ranking[arm, n], tau[n]) for n in learnt]
        own = [weighted_mean([*learnt.values()], one) for one in zip(*values, strict=True)]
        means.append(torch.stack([cross_entropy[arm], *own]))
    references = torch.stack([reference_logits(objective, teachers) for objective in objectives])
    return BatchMetrics(
        torch.cat([torch.stack(means), kl, ranking], dim=1),
        _count_correct(students, references, targets.labels),
    )


def _divergence(objectives: Sequence[Objective], students: Tensor, teachers: Tensor) -> Tensor:
    """Return KL × T² (A, B) of logits (A, B, C), at the temperature of each arm."""
    is_large = max(objective.temperature for objective in objectives) > LARGE_TEMPERATURE
    kl = kl_at_any_temperature if is_large else kl_per_image
    return kl(students, teachers, temperatures(objectives, students))


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
    """Return the counts (A, 3); teacher logits are (B, C), or (A, B, C) where arms differ."""
    top5 = students.topk(min(5, students.shape[2]), dim=2).indices
    agreement = (top5[..., 0] == teacher.argmax(dim=-1)).sum(dim=1)
    accuracy = (top5[..., 0] == labels).sum(dim=1)
    in_top5 = (top5 == labels[:, None]).sum(dim=(1, 2))
    return torch.stack([agreement, accuracy, in_top5], dim=1)
