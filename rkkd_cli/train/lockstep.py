"""Lockstep training: each batch is loaded, augmented and taught once; every arm steps on it."""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from rkkd_cli.data.on_device import AnyBatch, AnyStream
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.checkpoint import misfit_error
from rkkd_cli.train.cuda_graph import GraphRecorder
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.events import (
    ArmStopped,
    BatchDone,
    EndedEarly,
    EpochDone,
    Event,
    Note,
    StudentWeights,
    Tick,
    WeightsKind,
)
from rkkd_cli.train.metrics.evaluate import (
    EMA,
    EvaluatedStudent,
    HeldOutSplit,
    collapse_warnings,
    evaluate,
    first_non_finite,
    held_out_columns,
)
from rkkd_cli.train.metrics.gradients import gradient_columns
from rkkd_cli.train.metrics.meters import NonFinite, SplitMeters
from rkkd_cli.train.profile import DATA, stage
from rkkd_cli.train.sheets import sheets
from rkkd_cli.train.stacked.stack import group_into_stacks
from rkkd_cli.train.step import Progress, Step
from rkkd_cli.train.taught_batch import TeacherOutputs
from rkkd_cli.train.teacher.logit_cache import LogitCache, LogitCaches
from rkkd_cli.train.teacher.several import Teachers

Row = dict[str, Any]
MetersOfSplits = dict[str, SplitMeters]  # of one arm: test, val; with moving averages test_ema …


class Lockstep:
    """All arms of a stream, and how far they are.

    ``stacked`` lets arms step together where they can. With a ``logit_cache`` the teacher's logits
    are read from there, or written there. With a ``graph_recorder`` steps are recorded as CUDA
    graphs and replayed, where they can.

    An arm with a term that is NaN or infinite is dropped at the end of the epoch, without a row for
    it; the others continue. An arm that early stopping ends is dropped after its row.

    ``image_facts`` are what the students' weights files say about the images.
    """

    def __init__(
        self,
        name: str,
        stream: AnyStream,
        teacher: Teachers,
        arms: Sequence[ArmOnStream],
        epochs: int,
        held_out: Mapping[str, HeldOutSplit],
        stacked: bool = False,
        logit_cache: LogitCache | LogitCaches | None = None,
        process_group: ProcessGroup = SINGLE_PROCESS,
        graph_recorder: GraphRecorder | None = None,
        image_facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.stream, self.teacher = name, stream, teacher
        self.image_facts = image_facts or {}
        self.active, self.epochs, self.held_out = list(arms), epochs, held_out
        self.stacked, self.logit_cache, self.process_group = stacked, logit_cache, process_group
        self.graph_recorder = graph_recorder
        self.step: Step | None = None  # of the active arms
        self.stopped: list[ArmStopped] = []
        self.ended: list[EndedEarly] = []
        self.epochs_done = self.batches_done = 0
        self.seconds = 0.0

    def train(self) -> Iterator[Event]:
        """Train to the end; evaluate on the held-out splits after each epoch.

        :meth:`state` may be called at each BatchDone, Tick and EpochDone.
        """
        while self.active and self.epochs_done < self.epochs:
            epoch = self.epochs_done + 1
            with self._teacher_outputs(epoch) as teacher_outputs:
                started = time.perf_counter()
                for batch in self._batches(epoch):
                    progress = Progress(epoch, self.epochs, self.batches_done, len(self.stream))
                    self._current_step().take(teacher_outputs, batch, progress)
                    self.batches_done += 1
                    self.seconds += time.perf_counter() - started
                    yield BatchDone(self.name, epoch, self.batches_done)
                    if not self.active:  # stop_diverged() has dropped the last one
                        break
                    started = time.perf_counter()
            yield from self._problems()
            yield from self._finish_epoch()

    def _teacher_outputs(self, epoch: int) -> AbstractContextManager[TeacherOutputs]:
        """Return the source of an epoch's teacher outputs: the teachers, or their cached logits."""
        if self.logit_cache is None:
            return nullcontext(self.teacher)
        first_image = self.batches_done * self.stream.batch_size
        return self.logit_cache.open_epoch(epoch, first_image, self.teacher)

    def _batches(self, epoch: int) -> Iterator[AnyBatch]:
        """Yield the remaining batches of an epoch."""
        batches: Iterator[AnyBatch] = self.stream.epoch(
            epoch, self.batches_done, self.process_group.shard
        )
        for _ in range(len(self.stream) - self.batches_done):
            with stage(DATA):
                batch = next(batches)
            yield batch

    def _current_step(self) -> Step:
        """Return the step of the active arms, which are stacked if that is wanted."""
        if self.step is None:
            self.step = Step(
                group_into_stacks(self.active) if self.stacked else self.active,
                self.stream.batch_size,
                process_group=self.process_group,
                graph_recorder=self.graph_recorder,
            )
        return self.step

    def _problems(self) -> Iterator[Note]:
        """Yield what the logit cache and the CUDA graph could not do in this epoch."""
        while self.logit_cache is not None and self.logit_cache.problems:
            yield Note(self.logit_cache.problems.pop(0))
        if self.graph_recorder is not None and self.step is not None and self.step.problem:
            self.graph_recorder = None
            yield Note(f"{self.name} trains without a CUDA graph: {self.step.problem}")

    def _finish_epoch(self) -> Iterator[Event]:
        started = time.perf_counter()
        trained = [(arm, arm.meters.averages()) for arm in self.active]  # waits for the device
        self.seconds += time.perf_counter() - started
        held_out = yield from self._evaluate([arm for arm, _ in trained])
        rows: list[Row] = []
        stopped: list[ArmStopped] = []
        for arm, means in trained:
            non_finite = first_non_finite(arm.meters, held_out[arm.name])
            if non_finite is None:
                rows.append(self._row(arm, means, held_out[arm.name]))
            elif arm in self.active:  # else stop_diverged() has dropped it during the evaluation
                stopped.append(self._stop(arm, non_finite))
        self.epochs_done, self.batches_done, self.seconds = self.epochs_done + 1, 0, 0.0
        trained_arms = {arm.name: arm for arm in self.active}
        ended = self._select(rows)
        for arm in self.active:
            arm.begin_epoch()
        yield from stopped
        yield from self._weights(trained_arms, rows)
        yield from ended
        finished = [row["arm"] for row in rows if self._is_finished(trained_arms[row["arm"]])]
        tests = {name: held_out[name]["test"] for name in finished}
        yield from collapse_warnings(self.teacher.task, self.stream.seed, self.epochs_done, tests)
        for arm, meters in tests.items():
            whose = self.name, arm, self.stream.seed, self.epochs_done
            yield from sheets(*whose, self.held_out["test"], meters)
        yield EpochDone(self.name, self.stream.seed, self.epochs_done, tuple(rows))

    def _evaluate(
        self, arms: Sequence[ArmOnStream]
    ) -> Generator[Tick, None, dict[str, MetersOfSplits]]:
        """Return the meters of each arm on the held-out splits."""
        models = [(arm, "", arm.student) for arm in arms]
        models += [(arm, EMA, arm.average) for arm in arms if arm.average is not None]
        students = [EvaluatedStudent(model, arm.objective, arm.input) for arm, _, model in models]
        buffers = [buffer for student in students for buffer in student.model.buffers()]
        self.process_group.broadcast_tensors(buffers)
        meters_of: dict[str, MetersOfSplits] = {arm.name: {} for arm in arms}
        for split_name, split in self.held_out.items() if arms else ():
            meters = yield from evaluate(students, split, self.teacher.precision)
            for (arm, average, _), its_meters in zip(models, meters, strict=True):
                meters_of[arm.name][split_name + average] = its_meters
        return meters_of

    def _row(self, arm: ArmOnStream, means: Mapping[str, float], held_out: MetersOfSplits) -> Row:
        """Return the arm's row of metrics.csv."""
        row: Row = {"arm": arm.name, "lr": arm.trained.lr}
        row |= {"train_acc" if name == "acc" else name: value for name, value in means.items()}
        row |= gradient_columns(arm.diagnostics.averages())
        for split_name, meters in held_out.items():
            row |= held_out_columns(arm.task, split_name, meters)
        return row | {
            "seed": self.stream.seed,
            "epoch": self.epochs_done + 1,
            "epoch_seconds": round(self.seconds, 4),
            "images_per_second": round(self.stream.images_per_epoch / self.seconds, 1),
        }

    def _select(self, rows: Sequence[Row]) -> list[EndedEarly]:
        """Show each arm its row; return which arms have ended early."""
        events: list[EndedEarly] = []
        by_name = {arm.name: arm for arm in self.active}
        for row in rows:
            arm = by_name[row["arm"]]
            arm.early_stopping.update(row, self.epochs_done)
            if arm.early_stopping.is_exhausted(self.epochs_done):
                ended = self._end(arm)
                # After the last epoch it is no early end, unless the run gets more epochs later.
                if self.epochs_done < self.epochs:
                    events.append(ended)
        return events

    def _is_finished(self, arm: ArmOnStream) -> bool:
        """Return whether the epoch that has just ended was the arm's last one."""
        return self.epochs_done == self.epochs or arm not in self.active

    def _weights(
        self, arms: Mapping[str, ArmOnStream], rows: Sequence[Row]
    ) -> Iterator[StudentWeights]:
        """Yield the weights of the arms whose best or last epoch this was, one file at a time."""
        for row in rows:
            arm = arms[row["arm"]]
            kinds: dict[WeightsKind, bool] = {
                "best": arm.early_stopping.is_best(self.epochs_done),
                "final": self._is_finished(arm),
                "ema": self._is_finished(arm) and arm.average is not None,
            }
            for kind in (kind for kind, is_due in kinds.items() if is_due):
                content = arm.weights_file(kind, row, self.image_facts)
                yield StudentWeights(self.name, arm.name, self.stream.seed, kind, content)

    def _end(self, arm: ArmOnStream) -> EndedEarly:
        """Drop an arm whose patience is exhausted."""
        assert arm.early_stopping.monitor is not None
        assert arm.early_stopping.best is not None
        value, epoch = arm.early_stopping.best
        ended = EndedEarly(
            stream=self.name,
            arm=arm.name,
            seed=self.stream.seed,
            epoch=self.epochs_done,
            monitor=arm.early_stopping.monitor,
            best=value,
            best_epoch=epoch,
        )
        self.ended.append(ended)
        self._drop(arm)
        return ended

    def stop_diverged(self) -> list[ArmStopped]:
        """Drop the arms with a term in this epoch that is not finite: no checkpoint has them."""
        found = [(arm, arm.meters.first_non_finite()) for arm in self.active]
        return [self._stop(arm, non_finite) for arm, non_finite in found if non_finite is not None]

    def _stop(self, arm: ArmOnStream, non_finite: NonFinite) -> ArmStopped:
        """Drop an arm with a term that is not finite."""
        stopped = ArmStopped(
            stream=self.name,
            arm=arm.name,
            seed=self.stream.seed,
            epoch=self.epochs_done + 1,
            step=non_finite.step,
            term=non_finite.term,
        )
        self.stopped.append(stopped)
        self._drop(arm)
        return stopped

    def _drop(self, arm: ArmOnStream) -> None:
        self.active = [active for active in self.active if active is not arm]
        self.step = None

    def state(self) -> dict[str, Any]:
        """Return the state dict."""
        return {
            "epochs_done": self.epochs_done,
            "batches_done": self.batches_done,
            "batches": len(self.stream),
            "seconds": self.seconds,
            "stacked": self.stacked,
            "stopped": [asdict(event) for event in self.stopped],
            "ended": [asdict(event) for event in self.ended],
            "arms": {arm.name: arm.state() for arm in self.active},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Load a state dict. Raises RunError where it does not fit the stream and its arms."""
        if state["batches"] != len(self.stream):
            reason = f"{state['batches']} batches an epoch instead of {len(self.stream)}"
            raise misfit_error(self.name, ValueError(reason))
        try:
            self.stopped = [ArmStopped(**event) for event in state["stopped"]]
            self.ended = [EndedEarly(**event) for event in state.get("ended", ())]
            self.active = [arm for arm in self.active if arm.name in state["arms"]]
            for arm in self.active:
                arm.load(state["arms"][arm.name])
            self.epochs_done, self.batches_done = state["epochs_done"], state["batches_done"]
            self.seconds = state["seconds"]
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise misfit_error(self.name, error) from None
