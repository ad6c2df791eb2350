"""What is recorded of a batch: the raw terms and metrics of all arms, measured at once.

Shapes: A arms, B batch, C classes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.blocks import BLOCK_PAIRS
from rkkd_cli.losses.divergence import kl_per_image
from rkkd_cli.losses.ranking import ranking_per_image
from rkkd_cli.losses.tau import tau_b_per_image
from rkkd_cli.methods.objective import TERMS, Objective

MEANS = (*TERMS, "kendall_tau")
HITS = ("agreement", "acc", "top5")


class Measured(NamedTuple):
    """Batch means, (A, 4), in the order of ``MEANS``, and counts of images, (A, 3), of ``HITS``.

    ``agreement`` counts the images for which student and teacher name the same
    class. With fewer than five classes, ``top5`` looks at all of them.
    """

    means: Tensor
    hits: Tensor


@torch.no_grad()
def measure(
    objectives: Sequence[Objective], students: Tensor, teacher: Tensor, labels: Tensor
) -> Measured:
    """Return the terms and metrics of the arms' logits (A, B, C), teacher's (B, C), labels (B,).

    No number of an arm depends on the others, to the last bit: everything is computed image by
    image, and where pairs of classes would be cut into blocks, arm by arm.
    """
    students = students.float() if students.dtype.itemsize < 4 else students
    teachers = teacher.expand(students.shape)
    per_image = torch.stack(
        [
            _cross_entropies(students, labels),
            _divergences(objectives, students, teachers),
            _rankings(objectives, students, teachers),
            _taus(students, teachers),
        ]
    )
    return Measured(per_image.mean(dim=2).T, _hits(students, teacher, labels))


def _cross_entropies(students: Tensor, labels: Tensor) -> Tensor:
    arms, images, _ = students.shape
    rows = F.cross_entropy(students.flatten(0, 1), labels.repeat(arms), reduction="none")
    return rows.view(arms, images)


def _divergences(objectives: Sequence[Objective], students: Tensor, teachers: Tensor) -> Tensor:
    temperatures = students.new_tensor([one.temperature for one in objectives])[:, None, None]
    return kl_per_image(students, teachers, temperatures)


def _rankings(objectives: Sequence[Objective], students: Tensor, teachers: Tensor) -> Tensor:
    values = students.new_empty(students.shape[:2])
    for settings, numbers in ranked_alike(objectives).items():
        for part in parts_of_arms(numbers, students):
            student, teacher = students[part].flatten(0, 1), teachers[part].flatten(0, 1)
            values[part] = ranking_per_image(student, teacher, *settings).view(len(part), -1)
    return values


def ranked_alike(objectives: Sequence[Objective]) -> dict[tuple[float, str, str], list[int]]:
    """Return the numbers of the arms that have the same settings of the ranking loss."""
    alike: dict[tuple[float, str, str], list[int]] = {}
    for number, objective in enumerate(objectives):
        alike.setdefault(objective.ranking.settings, []).append(number)
    return alike


def _taus(students: Tensor, teachers: Tensor) -> Tensor:
    values = [
        tau_b_per_image(students[part].flatten(0, 1), teachers[part].flatten(0, 1))
        for part in parts_of_arms(range(len(students)), students)
    ]
    return torch.cat(values).view(students.shape[:2])


def parts_of_arms(arms: Sequence[int], students: Tensor) -> Iterator[list[int]]:
    """Yield the arms in parts whose pairs of classes are one block, or one arm at a time."""
    _, images, classes = students.shape
    size = max(1, BLOCK_PAIRS // (images * classes**2))
    for start in range(0, len(arms), size):
        yield list(arms[start : start + size])


def _hits(students: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    best = students.topk(min(5, students.shape[2]), dim=2).indices
    named = [best[..., 0] == teacher.argmax(dim=1), best[..., 0] == labels]
    counts = [one.sum(dim=1) for one in named]
    return torch.stack([*counts, (best == labels[:, None]).sum(dim=(1, 2))], dim=1)
