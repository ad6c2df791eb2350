"""What is recorded of a batch: the raw terms and metrics of all arms, measured at once.

Shapes: A arms, B batch, C classes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.divergence import kl_per_image
from rkkd_cli.losses.kernels.torch_blocks import PAIRS_PER_BLOCK
from rkkd_cli.losses.ranking import ranking_per_image
from rkkd_cli.losses.tau import tau_b_per_image
from rkkd_cli.methods.objective import SHARED_TERMS, Objective

MEANS = (*SHARED_TERMS, "kendall_tau")
CORRECT = ("agreement", "acc", "top5")

RankSettings = tuple[float, str, str]
OfLogits = Callable[[Tensor, Tensor, RankSettings], Tensor]


class Measured(NamedTuple):
    """Batch means, (A, 4), in the order of ``MEANS``, and counts of images, (A, 3), of ``CORRECT``.

    ``agreement`` counts the images for which student and teacher name the same
    class. With fewer than five classes, ``top5`` looks at all of them.
    """

    means: Tensor
    correct: Tensor


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
    return Measured(per_image.mean(dim=2).T, _correct(students, teacher, labels))


def _cross_entropies(students: Tensor, labels: Tensor) -> Tensor:
    arms, images, _ = students.shape
    rows = F.cross_entropy(students.flatten(0, 1), labels.repeat(arms), reduction="none")
    return rows.view(arms, images)


def _divergences(objectives: Sequence[Objective], students: Tensor, teachers: Tensor) -> Tensor:
    return kl_per_image(students, teachers, temperatures_of(objectives, students))


def temperatures_of(objectives: Sequence[Objective], like: Tensor) -> Tensor:
    """Return the arms' temperatures, (A, 1, 1), filled in where ``like`` is: nothing is sent."""
    return torch.cat([like.new_full((1, 1, 1), one.temperature) for one in objectives])


def _rankings(objectives: Sequence[Objective], students: Tensor, teachers: Tensor) -> Tensor:
    def ranked(student: Tensor, teacher: Tensor, settings: RankSettings) -> Tensor:
        return ranking_per_image(student, teacher, *settings)

    return of_arms_ranked_alike(objectives, students, teachers, ranked)


def of_arms_ranked_alike(
    objectives: Sequence[Objective], students: Tensor, teachers: Tensor, function: OfLogits
) -> Tensor:
    """Return ``function`` of the logits of all arms, (A, B, …), of those together that can be."""
    values: dict[int, Tensor] = {}
    for settings, numbers in ranked_alike(objectives).items():
        for part in parts_of_arms(numbers, students):
            joined = function(_joined(students, part), _joined(teachers, part), settings)
            values |= zip(part, joined.chunk(len(part)), strict=True)
    return torch.stack([values[number] for number in sorted(values)])


def ranked_alike(objectives: Sequence[Objective]) -> dict[RankSettings, list[int]]:
    """Return the numbers of the arms that have the same settings of the ranking loss."""
    alike: dict[RankSettings, list[int]] = {}
    for number, objective in enumerate(objectives):
        alike.setdefault(objective.ranking.settings, []).append(number)
    return alike


def _taus(students: Tensor, teachers: Tensor) -> Tensor:
    values = [
        tau_b_per_image(_joined(students, part), _joined(teachers, part))
        for part in parts_of_arms(range(len(students)), students)
    ]
    return torch.cat(values).view(students.shape[:2])


def _joined(logits: Tensor, arms: Sequence[int]) -> Tensor:
    """Return the rows (B, C) of the arms, one after another. An index would wait for a GPU."""
    return torch.cat([logits[number] for number in arms])


def parts_of_arms(arms: Sequence[int], students: Tensor) -> Iterator[list[int]]:
    """Yield the arms in parts whose pairs of classes are one block, or one arm at a time."""
    _, images, classes = students.shape
    size = max(1, PAIRS_PER_BLOCK // (images * classes**2))
    for start in range(0, len(arms), size):
        yield list(arms[start : start + size])


def _correct(students: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    best = students.topk(min(5, students.shape[2]), dim=2).indices
    named = [best[..., 0] == teacher.argmax(dim=1), best[..., 0] == labels]
    counts = [one.sum(dim=1) for one in named]
    return torch.stack([*counts, (best == labels[:, None]).sum(dim=(1, 2))], dim=1)
