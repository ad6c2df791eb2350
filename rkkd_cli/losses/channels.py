"""Which classes take part in the ranking: all, the teacher's top or bottom ones, or both tops."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.errors import UserError


class Channels(NamedTuple):
    """The classes with the largest or smallest logits of each row, by the teacher's logits.

    ``amount`` is a share of the classes up to 1, and a number of them above. With ``both`` they are
    those of the teacher and those of the student, each class once.
    """

    amount: float
    largest: bool = True
    both: bool = False

    def count(self, num_classes: int) -> int:
        """Return how many of ``num_classes`` one model chooses: at least 2, and at most all."""
        count = self.amount if self.amount > 1 else self.amount * num_classes
        return min(num_classes, max(2, round(count)))


class Ranked(NamedTuple):
    """Rows (N, M) whose entries are ranked: the first ``counts`` (N,) of each row, or all."""

    student: Tensor
    teacher: Tensor
    counts: Tensor | None = None


ALL = Channels(1.0)
SMALLEST_GROUP = 16  # of classes: with less than 256 for each one chosen there are no groups
SIDES: dict[str, dict[str, bool]] = {
    "top": {},
    "bottom": {"largest": False},
    "union": {"both": True},
}


def parse_channels(text: str) -> Channels:
    """Parse ``all``, ``top:AMOUNT``, ``bottom:AMOUNT`` or ``union:AMOUNT``. Raises ValueError.

    AMOUNT is a share (0 < AMOUNT ≤ 1) or a number of classes (from 2 on).
    """
    if text == "all":
        return ALL
    side, _, number = text.partition(":")
    try:
        amount = float(number)
    except ValueError:
        amount = math.nan
    is_amount = 0 < amount <= 1 or (amount > 1 and number.isdecimal())
    if side not in SIDES or not is_amount:
        raise UserError(
            "channels must be all, top:SHARE or bottom:SHARE with a share above 0 and up to 1, or "
            "a number of classes instead (such as bottom:0.1, top:64), or union:SHARE, the top "
            f"ones of teacher and student, not {text!r}"
        )
    return Channels(amount, **SIDES[side])


def select_channels(student: Tensor, teacher: Tensor, channels: str) -> Ranked:
    """Return the entries of rows of logits (N, C) that take part."""
    parsed = parse_channels(channels)
    count = parsed.count(teacher.shape[1])
    if count == teacher.shape[1]:
        return Ranked(student, teacher)
    indices, counts = _extreme(teacher, count, parsed.largest), None
    if parsed.both:
        indices, counts = _union(indices, _extreme(student.detach(), count, largest=True))
    return Ranked(student.gather(1, indices), teacher.gather(1, indices), counts)


def _extreme(logits: Tensor, count: int, largest: bool) -> Tensor:
    """Return the numbers (N, count) of the largest or smallest logits of each row.

    On a CPU ``topk`` keeps the largest so far in a heap, which a row in rising order changes at
    every entry. So many classes are cut into groups of every so many, and only the groups with the
    most extreme entries are searched: ``count`` of them have all that are asked for.
    """
    classes = logits.shape[1]
    size = math.isqrt(classes // count)
    if size < SMALLEST_GROUP:
        return logits.topk(count, dim=1, largest=largest).indices
    groups = classes // size
    grouped = logits[:, : size * groups].view(-1, size, groups)
    extremes = grouped.amax(dim=1) if largest else grouped.amin(dim=1)
    chosen = extremes.topk(count, dim=1, largest=largest).indices
    members = torch.arange(0, size * groups, groups, device=logits.device)
    rest = torch.arange(size * groups, classes, device=logits.device).expand(len(logits), -1)
    candidates = torch.cat([(chosen[:, :, None] + members).flatten(1), rest], dim=1)
    found = logits.gather(1, candidates).topk(count, dim=1, largest=largest).indices
    return candidates.gather(1, found)


def _union(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return the classes in either of two choices (N, M): (N, 2·M), and how many, (N,).

    Those of a row come first, by their numbers. Behind them stand those that are in both again, as
    padding: nothing here waits for the device to say how long the longest row is.
    """
    both = torch.cat([first, second], dim=1).sort(dim=1).values
    again = torch.zeros_like(both, dtype=torch.bool)
    again[:, 1:] = both[:, 1:] == both[:, :-1]
    order = again.to(torch.uint8).argsort(dim=1, stable=True)
    return both.gather(1, order), (~again).sum(dim=1)
