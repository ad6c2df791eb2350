"""Whether stacked arms or arms one after another are faster here: both are tried."""

import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from rkkd_cli.config.arms import Arm
from rkkd_cli.data.stream import Batch
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.stack import Stepping, stacks_of
from rkkd_cli.train.teacher import Teacher

WARM_UP, TIMED = 2, 5


def seconds_a_step(arms: Sequence[Arm], seed: int, teacher: Teacher, batch: Batch) -> list[float]:
    """Return the median seconds of a step of all arms: one after another, and stacked.

    Copies of the arms are trained and thrown away. Arms that cannot be stacked, or for which there
    is no memory, take infinitely long.
    """
    logits = teacher(batch.images)
    own = [_seconds(_new(arms, seed, teacher), batch, logits)]
    try:
        return [*own, _seconds(stacks_of(_new(arms, seed, teacher)), batch, logits)]
    except RuntimeError:  # out of memory, or an operation that cannot be stacked
        return [*own, float("inf")]


def _new(arms: Sequence[Arm], seed: int, teacher: Teacher) -> list[ArmOnStream]:
    return [ArmOnStream(arm, seed, teacher) for arm in arms]


def _seconds(steppings: Sequence[Stepping], batch: Batch, logits: Tensor) -> float:
    times = []
    for _ in range(WARM_UP + TIMED):
        started = time.perf_counter()
        for one in steppings:
            one.step(batch, logits, 0.0)
        if logits.device.type == "cuda":
            torch.cuda.synchronize(logits.device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UP:])
