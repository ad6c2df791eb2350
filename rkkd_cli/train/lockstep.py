"""Lockstep training: each batch is loaded, augmented and taught once; every arm steps on it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from rkkd_cli.data.stream import DeviceImages, Stream
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.evaluate import evaluate
from rkkd_cli.train.events import ArmStopped, BatchDone, EpochDone, Event
from rkkd_cli.train.teacher import Teacher
from rkkd_cli.train.totals import NonFinite


def train_in_lockstep(
    stream: Stream,
    teacher: Teacher,
    arms: Sequence[ArmOnStream],
    epochs: int,
    held_out: Mapping[str, DeviceImages],
) -> Iterator[Event]:
    """Train all arms for ``epochs``; evaluate on the splits of ``held_out`` after each.

    An arm with a term that is NaN or infinite is dropped at the end of the epoch, without a row
    for it; the others go on.
    """
    taught = {name: (split, teacher.all_logits(split)) for name, split in held_out.items()}
    active = list(arms)
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        for step, batch in enumerate(stream.epoch(epoch), start=1):
            teacher_logits = teacher(batch.images)
            for arm in active:
                arm.step(batch, teacher_logits, epoch - 1 + (step - 1) / len(stream))
            yield BatchDone(stream.seed, epoch, step)
        trained = [(arm, arm.totals.averages()) for arm in active]
        seconds = time.perf_counter() - started
        rows = []
        for arm, means in trained:
            row, bad = _finish_epoch(arm, means, taught)
            if bad is None:
                rows.append(row | _timing(stream, epoch, seconds))
            else:
                active.remove(arm)
                yield ArmStopped(arm.name, stream.seed, epoch, *bad)
        if rows:
            yield EpochDone(stream.seed, epoch, tuple(rows))
        if not active:
            return


def _finish_epoch(
    arm: ArmOnStream, means: dict[str, float], taught: Mapping[str, tuple[DeviceImages, Tensor]]
) -> tuple[dict[str, Any], tuple[int | None, str] | None]:
    """Return the arm's row, and (step, term) of the first value that is not finite."""
    bad = _located(arm.totals.first_non_finite(), "")
    row: dict[str, Any] = {"arm": arm.name, "lr": arm.lr} | _columns(means, "", "train_")
    for split, (images, teacher_logits) in taught.items():
        totals = evaluate(arm.student, arm.objective, images, teacher_logits, arm.precision)
        row |= _columns(totals.averages(), f"{split}_", f"{split}_")
        bad = bad or _located(totals.first_non_finite(), f"{split}_")
    arm.totals = arm.new_totals()
    return row, bad


def _columns(means: Mapping[str, float], prefix: str, accuracy_prefix: str) -> dict[str, float]:
    return {
        (accuracy_prefix if name == "acc" else prefix) + name: value
        for name, value in means.items()
    }


def _located(bad: NonFinite | None, prefix: str) -> tuple[int | None, str] | None:
    if bad is None:
        return None
    return (None if prefix else bad.step), prefix + bad.term


def _timing(stream: Stream, epoch: int, seconds: float) -> dict[str, Any]:
    return {
        "seed": stream.seed,
        "epoch": epoch,
        "epoch_seconds": round(seconds, 4),
        "images_per_second": round(len(stream.data) / seconds, 1),
    }
