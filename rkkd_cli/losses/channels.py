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
    indices, counts = teacher.topk(count, dim=1, largest=parsed.largest).indices, None
    if parsed.both:
        indices, counts = _union(indices, student.detach().topk(count, dim=1).indices)
    return Ranked(student.gather(1, indices), teacher.gather(1, indices), counts)


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
