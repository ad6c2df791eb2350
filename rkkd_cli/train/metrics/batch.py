"""The terms and metrics of a batch, for all arms at once.

Shapes: A arms, B batch, C classes.
"""

import math
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
from rkkd_cli.losses.tail_bin import TopLogits, completed_logits
from rkkd_cli.losses.tau import tau_b_per_image
from rkkd_cli.methods.hard_term import HardTerm
from rkkd_cli.methods.objective import Objective, weighted_mean
from rkkd_cli.methods.teacher_outputs import (
    AnyLogits,
    reference_logits,
    target_logits,
)
from rkkd_cli.tasks.task import Task

RankingFunction = Callable[[Tensor, Tensor, RankingSettings], Tensor]


class BatchMetrics(NamedTuple):
    """Batch means (A, 4) in the order of :func:`mean_names`, and numbers of images (A,) by name.

    With several teachers, the means of ``target_columns`` follow.
    """

    means: Tensor
    counts: dict[str, Tensor]

    def of_arm(self, arm: int, counted: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return an arm's means, and those of its counts that are asked for."""
        no_counts = self.means.new_empty(0, dtype=torch.int64)
        counts = [self.counts[name][arm] for name in counted]
        return self.means[arm], torch.stack(counts) if counts else no_counts


def mean_names(task: Task) -> tuple[str, ...]:
    """Return the names of the means of a batch."""
    return (*task.records.shared_terms, "kendall_tau", *task.row_shares)


@torch.no_grad()
def measure(
    task: Task,
    objectives: Sequence[Objective],
    hard_terms: Sequence[HardTerm],
    outputs: Sequence[Tensor],
    teacher: AnyLogits,
    targets: Targets,
) -> BatchMetrics:
    """Return the metrics of student outputs, each (A, B, D), teacher rows (B, C) and targets.

    ``outputs`` are those of all arms, together or in parts. The accuracy of mixed images counts the
    class with the larger share.

    An arm's numbers do not depend on the other arms, bit for bit: everything is computed image by
    image, and arm by arm where the pairs of classes would be split into blocks.
    """
    outputs = [one.float() if one.dtype.itemsize < 4 else one for one in outputs]
    students = rows_of(task, outputs)
    hard = task.hard_values(hard_terms, [arm for one in outputs for arm in one], targets)
    if isinstance(teacher, Mapping):
        means, reference = _measure_several(objectives, students, teacher, hard)
        return BatchMetrics(means, task.count(students, reference, targets.labels))
    teachers, ranked = compared_rows(objectives, students, teacher)
    divergence = _divergence(objectives, students, teachers)
    ranking = map_ranking(ranking_per_image, objectives, *ranked)
    further = task.row_values(students, teachers)
    per_image = torch.stack([hard, divergence, ranking, kendall_tau(*ranked), *further])
    if not isinstance(teacher, Tensor):
        teacher = teacher.among_all(teacher.logits, students.shape[2], others=-math.inf)
    counts = task.count(students, teacher, targets.labels)
    return BatchMetrics(per_image.mean(dim=2).T, counts)


class ComparedRows(NamedTuple):
    """What KL compares students (A, B, C) with, and the rows of both that are ranked.

    ``ranked`` are (A, B, C), or (A, B, K) where the logits of K classes are kept.
    """

    teachers: Tensor
    ranked: tuple[Tensor, Tensor]


def compared_rows(
    objectives: Sequence[Objective], students: Tensor, teacher: Tensor | TopLogits
) -> ComparedRows:
    """Return the rows that are compared with one teacher's."""
    if isinstance(teacher, Tensor):
        teachers = teacher.expand(students.shape)
        return ComparedRows(teachers, (students, teachers))
    completed = [
        completed_logits(student, teacher, objective.temperature)
        for student, objective in zip(students, objectives, strict=True)
    ]
    return ComparedRows(torch.stack(completed), teacher.pair(students))


def rows_of(task: Task, outputs: Sequence[Tensor]) -> Tensor:
    """Return the rows of logits (A, B, C) of all arms, of outputs (A, B, D) in parts."""
    return torch.cat([task.rows(one) for one in outputs])


def _measure_several(
    objectives: Sequence[Objective],
    students: Tensor,
    teachers: Mapping[str, Tensor],
    hard: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the means to what each arm learns from, with KL and ranking loss to each target.

    The second is what stands for all that an arm learns from, (A, B, C).

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
    of_labels = hard.mean(dim=1)
    means = []
    for arm, objective in enumerate(objectives):
        learnt = {names.index(name): share for name, share in objective.shares.items()}
        rows = taught.view(len(students), len(names), *taught.shape[1:])[arm]
        tau = {n: kendall_tau(students[arm][None], rows[n][None]).mean() for n in learnt}
        values = [(kl[arm, n], ranking[arm, n], tau[n]) for n in learnt]
        own = [weighted_mean([*learnt.values()], one) for one in zip(*values, strict=True)]
        means.append(torch.stack([of_labels[arm], *own]))
    references = torch.stack([reference_logits(objective, teachers) for objective in objectives])
    return torch.cat([torch.stack(means), kl, ranking], dim=1), references


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
