"""The stages of a learning-rate schedule, found in the recorded rates."""

from typing import NamedTuple

import pandas as pd

DROP, STEADY = 0.67, 0.999


class Stage(NamedTuple):
    """The epochs from one drop to the next, both included."""

    first: int
    last: int


def learning_rate_drops(rows: pd.DataFrame) -> list[float]:
    """Return where the learning rate fell by a third or more at once: between the two epochs.

    A rate that was falling already, as on a cosine, has no drop.
    """
    rates = rows.groupby("epoch")["lr"].first()
    ratio = rates / rates.shift()
    was_falling = ratio.shift() < STEADY
    return [float(epoch) - 0.5 for epoch in ratio.index[(ratio < DROP) & ~was_falling]]


def stages_of(rows: pd.DataFrame, last: int) -> list[Stage]:
    """Return the stages up to the epoch ``last``; one where the rate has no drop."""
    ends = [int(drop) for drop in learning_rate_drops(rows) if drop < last]
    return [Stage(a + 1, b) for a, b in zip([0, *ends], [*ends, last], strict=True)]
