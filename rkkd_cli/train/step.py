"""One step of all arms of a stream: the teacher sees the batch, every arm steps, all is recorded.

What the device does is apart from what only Python does, so that a CUDA graph can repeat it.
"""

from collections.abc import Hashable, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from rkkd_cli.data.stream import Batch
from rkkd_cli.train.arm import record, record_gradients
from rkkd_cli.train.cuda_graph import Captured, Recorder
from rkkd_cli.train.distributed.ranks import ALONE, Ranks
from rkkd_cli.train.metrics.gradients import EVERY
from rkkd_cli.train.profile import STREAM, Spans, untimed
from rkkd_cli.train.recipe import allow_capture
from rkkd_cli.train.stacked.stack import Stack, Stepping
from rkkd_cli.train.taught_batch import Lesson, Seer, Stepped, needs_of, teach


class Moment(NamedTuple):
    """A batch of a training, number ``batch`` (from 0) of ``batches`` in an epoch (from 1)."""

    epoch: int
    epochs: int
    batch: int
    batches: int

    @property
    def epochs_done(self) -> float:
        """The epochs done, with fractions."""
        return self.epoch - 1 + self.batch / self.batches


class Step:
    """What all arms do with a batch. With a ``recorder`` it is recorded and replayed.

    ``size`` is the number of images of most batches.
    """

    def __init__(
        self,
        steppings: Sequence[Stepping],
        size: int,
        ranks: Ranks = ALONE,
        spans: Spans = untimed,
        recorder: Recorder | None = None,
    ) -> None:
        self.steppings, self.ranks, self.spans = steppings, ranks, spans
        self.arms = [arm for one in steppings for arm in one.members]
        self.needs = needs_of(arm.objective for arm in self.arms)
        self.captured: Captured[tuple[Lesson, list[Stepped]]] | None = None
        if recorder is not None:
            for arm in self.arms:
                allow_capture(arm.trainee.optimizer)
            self.captured = Captured(recorder, size, self._changed, self._obstacle)

    @property
    def problem(self) -> str:
        """Why steps are not replayed although they should be, if so."""
        return self.captured.problem if self.captured else ""

    def take(self, seer: Seer, batch: Batch, moment: Moment) -> None:
        """Let every arm step on the batch, and record all of them."""
        for one in self.steppings:
            one.set_rates(moment.epochs_done)
        work = partial(self._work, seer, moment)
        if self.captured is None:
            lesson, stepped = work(batch)
        else:
            lesson, stepped = self.captured(work, batch, self._kind(moment.epoch))
        for arm in self.arms:
            arm.totals.images += batch.total
        if moment.batch % EVERY == 0:
            with self.spans(STREAM, "records"):
                record_gradients(self.arms, stepped, lesson, self.ranks)

    def _work(self, seer: Seer, moment: Moment, batch: Batch) -> tuple[Lesson, list[Stepped]]:
        """Do all that the device does, and nothing that it does not."""
        with self.spans(STREAM, "teacher"):
            lesson = teach(seer, batch, self.needs, moment.epoch, moment.epochs)
        stepped = [one.step(lesson, self.spans) for one in self.steppings]
        with self.spans(STREAM, "records"):
            record(self.arms, stepped, lesson, self.ranks)
        return lesson, stepped

    def _changed(self) -> list[Tensor]:
        """Return all tensors that a step changes."""
        tensors: list[Tensor] = []
        for arm in self.arms:
            model, optimizer = arm.trainee.model, arm.trainee.optimizer
            held = [*model.parameters(), *model.buffers()]
            held += [one for state in optimizer.state.values() for one in state.values()]
            tensors += [one.detach() for one in held if isinstance(one, Tensor)]
            tensors += arm.totals.tensors
        return tensors

    def _kind(self, epoch: int) -> Hashable:
        """Return what of a step changes with the epoch: weights, and what methods make of it."""
        objectives = [arm.objective for arm in self.arms]
        weights = tuple(tuple(one.weights(epoch).items()) for one in objectives)
        return weights, epoch if any(one.method.reads_epoch for one in objectives) else None

    def _obstacle(self) -> str:
        """Return why steps like those so far cannot be repeated by a graph, if so."""
        drawing = [arm.name for arm in self.arms if arm.trainee.randomness.drew]
        if drawing:
            return f"arm {drawing[0]} draws random numbers in each step"
        if any(isinstance(one, Stack) and not one.optimizer.capturable for one in self.steppings):
            return "stacked AdamW counts its steps on the CPU (--no-stack helps)"
        return ""
