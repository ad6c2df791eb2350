"""Tries which is faster on this device: arms one after another, or stacked."""

import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from rkkd_cli.config.arms import Arm
from rkkd_cli.data.stream import Batch
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.regions import AnyTaught
from rkkd_cli.train.stacked.stack import ArmGroup, group_into_stacks
from rkkd_cli.train.taught_batch import feature_needs, run_teacher
from rkkd_cli.train.teacher.several import Teachers

WARM_UP_STEPS, TIMED_STEPS = 2, 5


def seconds_per_step(
    arms: Sequence[Arm], seed: int, teacher: Teachers, batch: Batch, labels: Tensor
) -> tuple[float, float]:
    """Return the median seconds of a step of all arms: one after another, and stacked.

    The steps are taken by copies of the arms. The second time is infinite if the arms cannot be
    stacked, or if the memory does not suffice.
    """
    unstacked = [ArmOnStream(arm, seed, teacher, labels) for arm in arms]
    taught = run_teacher(teacher, batch, feature_needs(arm.objective for arm in unstacked))
    one_by_one = _median_seconds(unstacked, taught)
    try:
        copies = [ArmOnStream(arm, seed, teacher, labels) for arm in arms]
        return one_by_one, _median_seconds(group_into_stacks(copies), taught)
    except RuntimeError:  # out of memory, or an operation that cannot be stacked
        return one_by_one, float("inf")


def _median_seconds(groups: Sequence[ArmGroup], taught: AnyTaught) -> float:
    device = taught.batch.images.device
    times = []
    for _ in range(WARM_UP_STEPS + TIMED_STEPS):
        started = time.perf_counter()
        for group in groups:
            group.step(taught)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UP_STEPS:])
