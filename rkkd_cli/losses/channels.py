"""Which classes take part in the ranking: all, or the teacher's top or bottom ones."""

import math
from typing import NamedTuple

from torch import Tensor

from rkkd_cli.errors import UserError


class Channels(NamedTuple):
    """The classes with the teacher's largest or smallest logits, per image.

    ``amount`` is a share of the classes up to 1, and a number of them above.
    """

    amount: float
    largest: bool

    def count(self, num_classes: int) -> int:
        """Return how many of ``num_classes`` take part: at least 2, and at most all."""
        count = self.amount if self.amount > 1 else self.amount * num_classes
        return min(num_classes, max(2, round(count)))


ALL = Channels(1.0, largest=True)


def parse_channels(text: str) -> Channels:
    """Parse ``all``, ``top:AMOUNT`` or ``bottom:AMOUNT``. Raises ValueError.

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
    if side not in ("top", "bottom") or not is_amount:
        raise UserError(
            "channels must be all, top:SHARE or bottom:SHARE with a share above 0 and up to 1, or "
            f"a number of classes instead (such as bottom:0.1, top:64), not {text!r}"
        )
    return Channels(amount, largest=side == "top")


def select_channels(student: Tensor, teacher: Tensor, channels: str) -> tuple[Tensor, Tensor]:
    """Return the logits (B, M) of the classes that take part, as the teacher's logits choose."""
    parsed = parse_channels(channels)
    count = parsed.count(teacher.shape[1])
    if count == teacher.shape[1]:
        return student, teacher
    indices = teacher.topk(count, dim=1, largest=parsed.largest).indices
    return student.gather(1, indices), teacher.gather(1, indices)
