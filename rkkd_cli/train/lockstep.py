"""Lockstep training: each batch is loaded, augmented and taught once; every arm steps on it."""

import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from rkkd_cli.data.stream import Batch, Stream
from rkkd_cli.train.arm import ArmOnStream, best_so_far
from rkkd_cli.train.checkpoint import misfit
from rkkd_cli.train.cuda_graph import GraphRecorder
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.events import ArmStopped, BatchDone, EndedEarly, EpochDone, Event, Note, Tick
from rkkd_cli.train.metrics.evaluate import Evaluated, TaughtSplit, evaluate
from rkkd_cli.train.metrics.gradients import derived
from rkkd_cli.train.metrics.meters import EpochMeters, NonFinite
from rkkd_cli.train.profile import DATA, EVALUATION, STREAM, Spans, untimed
from rkkd_cli.train.stacked.stack import stacks_of
from rkkd_cli.train.step import Progress, Step
from rkkd_cli.train.taught_batch import TeacherOutputs
from rkkd_cli.train.teacher.logit_cache import LogitCache
from rkkd_cli.train.teacher.model import Teacher

Row = dict[str, Any]
Bad = tuple[int | None, str]  # step (None: seen on a held-out split) and term


class Lockstep:
    """All arms of a stream and their progress; ``stacked`` lets arms that can step as one do so.

    With a ``logit_cache`` the teacher's logits are read from there, or kept there. With a
    ``graph_recorder`` steps are recorded as CUDA graphs and replayed, where they can be.

    An arm with a term that is NaN or infinite is dropped at the end of the epoch, without a row
    for it; the others go on. One whose patience is at its end is dropped after its row.
    """

    def __init__(
        self,
        name: str,
        stream: Stream,
        teacher: Teacher,
        arms: Sequence[ArmOnStream],
        epochs: int,
        held_out: Mapping[str, TaughtSplit],
        stacked: bool = False,
        logit_cache: LogitCache | None = None,
        process_group: ProcessGroup = SINGLE_PROCESS,
        spans: Spans = untimed,
        graph_recorder: GraphRecorder | None = None,
    ) -> None:
        self.name, self.stream, self.teacher = name, stream, teacher
        self.active, self.epochs, self.held_out = list(arms), epochs, held_out
        self.stacked, self.logit_cache, self.process_group = stacked, logit_cache, process_group
        self.spans, self.graph_recorder = spans, graph_recorder
        self.step: Step | None = None
        self.stopped: list[ArmStopped] = []
        self.ended: list[EndedEarly] = []
        self.epochs_done = self.batches_done = 0
        self.seconds = 0.0

    def train(self) -> Iterator[Event]:
        """Train from where it is to the end; evaluate on the held-out splits after each epoch.

        :meth:`state` may be taken at each BatchDone, Tick and EpochDone.
        """
        while self.active and self.epochs_done < self.epochs:
            epoch = self.epochs_done + 1
            with self._teacher_outputs(epoch) as teacher_outputs:
                started = time.perf_counter()
                for batch in self._batches(epoch):
                    progress = Progress(epoch, self.epochs, self.batches_done, len(self.stream))
                    self._step().take(teacher_outputs, batch, progress)
                    self.batches_done += 1
                    self.seconds += time.perf_counter() - started
                    yield BatchDone(self.name, epoch, self.batches_done)
                    if not self.active:  # stop_diverged() has dropped the last one
                        break
                    started = time.perf_counter()
            yield from self._problems()
            yield from self._finish_epoch()

    def _problems(self) -> Iterator[Note]:
        """Yield what the logit cache and the CUDA graph could not do in this epoch."""
        while self.logit_cache is not None and self.logit_cache.problems:
            yield Note(self.logit_cache.problems.pop(0))
        if self.graph_recorder is not None and self.step is not None and self.step.problem:
            self.graph_recorder = None
            yield Note(f"{self.name} trains without a CUDA graph: {self.step.problem}")

    def _teacher_outputs(self, epoch: int) -> AbstractContextManager[TeacherOutputs]:
        """Return where an epoch's teacher outputs come from: the teacher, or its cached logits."""
        if self.logit_cache is None:
            return nullcontext(self.teacher)
        first = self.batches_done * self.stream.batch_size
        return self.logit_cache.epoch(epoch, first, self.teacher)

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches that are left of an epoch."""
        batches = self.stream.epoch(epoch, self.batches_done, self.process_group.shard)
        for _ in range(len(self.stream) - self.batches_done):
            with self.spans(STREAM, DATA):
                batch = next(batches)
            yield batch

    def _step(self) -> Step:
        """Return the step of the active arms, stacked or each for itself."""
        if self.step is None:
            self.step = Step(
                stacks_of(self.active) if self.stacked else self.active,
                self.stream.batch_size,
                process_group=self.process_group,
                spans=self.spans,
                graph_recorder=self.graph_recorder,
            )
        return self.step

    def _finish_epoch(self) -> Iterator[Event]:
        waiting = time.perf_counter()
        trained = [(arm, arm.meters.averages()) for arm in self.active]
        self.seconds += time.perf_counter() - waiting
        rows, stopped = [], []
        held_out = yield from self._evaluate([arm for arm, _ in trained])
        for arm, means in trained:
            row, bad = self._row(arm, means, held_out[arm.name])
            if bad is None:
                rows.append(row)
            elif arm in self.active:  # stop_diverged() may have come first
                stopped.append(self._stop(arm, bad))
                self._drop(stopped[-1:])
        self.epochs_done, self.batches_done, self.seconds = self.epochs_done + 1, 0, 0.0
        selected = self._select(rows)
        for arm in self.active:
            arm.begin_epoch()
        yield from stopped
        yield from selected
        yield EpochDone(self.name, self.stream.seed, self.epochs_done, tuple(rows))

    def _select(self, rows: Sequence[Row]) -> list[Event]:
        """Let each arm see its row; return the weights to keep, and which arms have ended."""
        events: list[Event] = []
        by_name = {arm.name: arm for arm in self.active}
        for row in rows:
            arm = by_name[row["arm"]]
            if arm.early_stopping.update(row, self.epochs_done):
                events.append(best_so_far(self.name, self.stream.seed, arm))
            if arm.early_stopping.is_exhausted(self.epochs_done):
                ended = self._end(arm)
                self.ended.append(ended)
                self._leave([ended.arm])
                if self.epochs_done < self.epochs:  # else it is no early end, unless more follow
                    events.append(ended)
        return events

    def _end(self, arm: ArmOnStream) -> EndedEarly:
        assert arm.early_stopping.monitor is not None
        assert arm.early_stopping.best is not None
        return EndedEarly(
            self.name,
            arm.name,
            self.stream.seed,
            self.epochs_done,
            arm.early_stopping.monitor,
            *arm.early_stopping.best,
        )

    def _evaluate(
        self, arms: Sequence[ArmOnStream]
    ) -> Generator[Tick, None, dict[str, dict[str, EpochMeters]]]:
        """Return the totals of each arm on each held-out split."""
        students = [Evaluated(arm.student, arm.objective) for arm in arms]
        found: dict[str, dict[str, EpochMeters]] = {arm.name: {} for arm in arms}
        for split, taught in self.held_out.items() if arms else ():
            with self.spans(STREAM, EVALUATION):
                meters = yield from evaluate(
                    students, taught, self.teacher.precision, self.process_group
                )
            for arm, own in zip(arms, meters, strict=True):
                found[arm.name][split] = own
        return found

    def _row(
        self, arm: ArmOnStream, means: dict[str, float], held_out: Mapping[str, EpochMeters]
    ) -> tuple[Row, Bad | None]:
        """Return the arm's row, and (step, term) of the first value that is not finite."""
        bad = _located(arm.meters.first_non_finite(), "")
        row: Row = {"arm": arm.name, "lr": arm.trained.lr} | _columns(means, "", "train_")
        row |= derived(arm.diagnostics.averages())
        for split, meters in held_out.items():
            row |= _columns(meters.averages(), f"{split}_", f"{split}_")
            bad = bad or _located(meters.first_non_finite(), f"{split}_")
        return row | self._timing(), bad

    def _timing(self) -> Row:
        return {
            "seed": self.stream.seed,
            "epoch": self.epochs_done + 1,
            "epoch_seconds": round(self.seconds, 4),
            "images_per_second": round(len(self.stream.data) / self.seconds, 1),
        }

    def stop_diverged(self) -> Sequence[ArmStopped]:
        """Drop the arms whose running epoch is no longer finite: they are in no checkpoint."""
        located = [(arm, _located(arm.meters.first_non_finite(), "")) for arm in self.active]
        stopped = [self._stop(arm, bad) for arm, bad in located if bad is not None]
        self._drop(stopped)
        return stopped

    def _stop(self, arm: ArmOnStream, bad: Bad) -> ArmStopped:
        return ArmStopped(self.name, arm.name, self.stream.seed, self.epochs_done + 1, *bad)

    def _drop(self, stopped: Sequence[ArmStopped]) -> None:
        self.stopped += stopped
        self._leave([one.arm for one in stopped])

    def _leave(self, names: Collection[str]) -> None:
        self.active = [arm for arm in self.active if arm.name not in names]
        if names:
            self.step = None

    def state(self) -> dict[str, Any]:
        """Return all that :meth:`load` needs to go on as if nothing had happened."""
        return {
            "epochs_done": self.epochs_done,
            "batches_done": self.batches_done,
            "batches": len(self.stream),
            "seconds": self.seconds,
            "stacked": self.stacked,
            "stopped": [asdict(one) for one in self.stopped],
            "ended": [asdict(one) for one in self.ended],
            "arms": {arm.name: arm.state() for arm in self.active},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go back to a state. Raises RunError where it does not fit the stream and its arms."""
        if state["batches"] != len(self.stream):
            what = f"{state['batches']} batches an epoch instead of {len(self.stream)}"
            raise misfit(self.name, ValueError(what))
        try:
            self.stopped = [ArmStopped(**one) for one in state["stopped"]]
            self.ended = [EndedEarly(**one) for one in state.get("ended", ())]
            self.active = [arm for arm in self.active if arm.name in state["arms"]]
            for arm in self.active:
                arm.load(state["arms"][arm.name])
            self.epochs_done, self.batches_done = state["epochs_done"], state["batches_done"]
            self.seconds = state["seconds"]
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise misfit(self.name, error) from None


def check_state(name: str, state: Mapping[str, Any], arms: Collection[str]) -> None:
    """Raise RunError unless the state of a stream is one that these arms can have had."""
    try:
        gone = [ArmStopped(**one).arm for one in state["stopped"]]
        gone += [EndedEarly(**one).arm for one in state.get("ended", ())]
        position = (state["epochs_done"], state["batches_done"], state["batches"])
        if any(type(number) is not int for number in position):
            raise TypeError("its position is no whole number")
        if not (position[0] >= 0 and 0 <= position[1] <= position[2]):
            raise ValueError(f"batch {position[1]} of {position[2]} after epoch {position[0]}")
        if sorted([*state["arms"], *gone]) != sorted(arms):
            raise ValueError("its arms are others")
        if not state["seconds"] >= 0:
            raise ValueError("its time is negative")
        if type(state["stacked"]) is not bool:
            raise TypeError("it does not say whether its arms are stacked")
    except (KeyError, TypeError, ValueError) as error:
        raise misfit(name, error) from None


def _columns(means: Mapping[str, float], prefix: str, accuracy_prefix: str) -> dict[str, float]:
    return {
        (accuracy_prefix if name == "acc" else prefix) + name: value
        for name, value in means.items()
    }


def _located(bad: NonFinite | None, prefix: str) -> Bad | None:
    if bad is None:
        return None
    return (None if prefix else bad.step), prefix + bad.term
