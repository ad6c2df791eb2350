"""The stages of a learning-rate schedule, read from the recorded learning rates."""

from typing import NamedTuple

import pandas as pd

DROP_RATIO, STEADY_RATIO = 0.67, 0.999


class ScheduleStage(NamedTuple):
    """The epochs between two drops of the learning rate, both included."""

    first: int
    last: int

    @property
    def text(self) -> str:
        """``epochs 1 to 30``."""
        return f"epochs {self.first} to {self.last}"


def learning_rate_drops(rows: pd.DataFrame) -> list[float]:
    """Return where the learning rate drops by a third or more: midway between the two epochs.

    A rate that was falling already, as in a cosine schedule, has no drop.
    """
    rates = rows.groupby("epoch")["lr"].first()
    ratio = rates / rates.shift()
    was_falling = ratio.shift() < STEADY_RATIO
    return [float(epoch) - 0.5 for epoch in ratio.index[(ratio < DROP_RATIO) & ~was_falling]]


def schedule_stages(rows: pd.DataFrame, last: int) -> list[ScheduleStage]:
    """Return the stages up to the epoch ``last``; a rate without drops has one stage."""
    ends = [int(drop) for drop in learning_rate_drops(rows) if drop < last]
    return [ScheduleStage(a + 1, b) for a, b in zip([0, *ends], [*ends, last], strict=True)]
