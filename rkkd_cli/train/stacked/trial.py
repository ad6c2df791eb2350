"""Whether stacked arms or arms one after another are faster here: both are tried."""

import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from rkkd_cli.config.arms import Arm
from rkkd_cli.data.stream import Batch
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.stacked.stack import ArmGroup, stacks_of
from rkkd_cli.train.taught_batch import TaughtBatch, feature_needs, run_teacher
from rkkd_cli.train.teacher.model import Teacher

WARM_UP, TIMED = 2, 5


def seconds_a_step(
    arms: Sequence[Arm], seed: int, teacher: Teacher, batch: Batch, labels: Tensor
) -> list[float]:
    """Return the median seconds of a step of all arms: one after another, and stacked.

    Copies of the arms are trained and thrown away. Arms that cannot be stacked, or for which there
    is no memory, take infinitely long.
    """
    alone = [ArmOnStream(arm, seed, teacher, labels) for arm in arms]
    taught = run_teacher(teacher, batch, feature_needs(arm.objective for arm in alone))
    seconds = [_seconds(alone, taught)]
    try:
        copies = [ArmOnStream(arm, seed, teacher, labels) for arm in arms]
        return [*seconds, _seconds(stacks_of(copies), taught)]
    except RuntimeError:  # out of memory, or an operation that cannot be stacked
        return [*seconds, float("inf")]


def _seconds(groups: Sequence[ArmGroup], taught: TaughtBatch) -> float:
    times = []
    for _ in range(WARM_UP + TIMED):
        started = time.perf_counter()
        for one in groups:
            one.step(taught)
        if taught.teacher.logits.device.type == "cuda":
            torch.cuda.synchronize(taught.teacher.logits.device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UP:])
