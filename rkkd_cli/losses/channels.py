"""Which classes take part in the ranking: all, or the teacher's top or bottom share."""

import math
from typing import NamedTuple

from torch import Tensor

from rkkd_cli.errors import UserError


class Channels(NamedTuple):
    """The ``share`` of the classes with the teacher's largest or smallest logits, per image."""

    share: float
    largest: bool

    def count(self, num_classes: int) -> int:
        """Return how many of ``num_classes`` take part: the rounded share, at least 2."""
        return min(num_classes, max(2, round(self.share * num_classes)))


ALL = Channels(1.0, largest=True)


def parse_channels(text: str) -> Channels:
    """Parse ``all``, ``top:SHARE`` or ``bottom:SHARE`` with 0 < SHARE ≤ 1. Raises ValueError."""
    if text == "all":
        return ALL
    side, _, number = text.partition(":")
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    if side not in ("top", "bottom") or not 0 < share <= 1:
        raise UserError(
            f"channels must be all, top:SHARE or bottom:SHARE with a share above 0 and up to 1 "
            f"(such as bottom:0.1), not {text!r}"
        )
    return Channels(share, largest=side == "top")


def channel_indices(teacher: Tensor, channels: str) -> Tensor | None:
    """Return the class indices (B, M) that take part in each image, or None for all classes."""
    parsed = parse_channels(channels)
    count = parsed.count(teacher.shape[1])
    if count == teacher.shape[1]:
        return None
    return teacher.topk(count, dim=1, largest=parsed.largest).indices


def select_channels(student: Tensor, teacher: Tensor, channels: str) -> tuple[Tensor, Tensor]:
    """Return the logits (B, M) of the classes that take part, as the teacher's logits choose."""
    indices = channel_indices(teacher, channels)
    if indices is None:
        return student, teacher
    return student.gather(1, indices), teacher.gather(1, indices)
