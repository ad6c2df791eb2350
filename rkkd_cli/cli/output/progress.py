"""Live progress: one line per arm on a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rkkd_cli.cli.output.tables import dataset_line, teacher_line
from rkkd_cli.errors import printable
from rkkd_cli.train.events import (
    ArmStopped,
    BatchDone,
    DatasetReady,
    EndedEarly,
    EpochDone,
    Event,
    Note,
    StreamStarted,
    TeacherEpoch,
    TeacherReady,
)


class Reporter(Protocol):
    """Shows events; a context manager, so that a live display always ends."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """End, whatever happened."""

    def show(self, event: Event) -> None:
        """Show one event."""


def make_reporter(console: Console, quiet: bool) -> Reporter:
    """Return the reporter that fits: silent, live or line by line."""
    if quiet:
        return Silent()
    return Live(console) if console.is_terminal else Lines(console)


class Silent:
    """Shows nothing: what went wrong is said at the end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        pass

    def show(self, event: Event) -> None:
        """Show nothing."""


class Lines(Silent):
    """A line for everything that is worth one, each arm's epochs included."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.epochs = 0

    def show(self, event: Event) -> None:
        """Print the event's line or lines."""
        match event:
            case StreamStarted(epochs=epochs):
                self.epochs = epochs
                self.print(milestone_line(event))
            case TeacherEpoch():
                self.print(teacher_epoch_line(event))
            case EpochDone(rows=rows):
                for row in rows:
                    self.print(f"seed {row['seed']}  {row['arm']}  {epoch_text(row, self.epochs)}")
            case _:
                text = milestone_line(event)
                if text:
                    self.print(text)

    def print(self, text: str) -> None:
        """Print one line as it is."""
        self.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


class Live(Lines):
    """A progress bar per arm of the running stream; finished seeds stay above it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[status]}", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
        )
        self.tasks: dict[str, TaskID] = {}
        self.batches = 1

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def show(self, event: Event) -> None:
        """Update the bars, or print a line above them."""
        match event:
            case TeacherEpoch():
                task = self._task("teacher", event.epochs)
                status = teacher_epoch_line(event).removeprefix("teacher ")
                self.bars.update(task, completed=event.epoch, status=status)
            case StreamStarted():
                self.batches, self.epochs, self.tasks = event.batches, event.epochs, {}
                done = event.epochs_done * event.batches + event.batches_done
                for arm in event.arms:
                    total = event.epochs * event.batches
                    task = self._task(arm.name, total, f"seed {event.seed} ")
                    self.bars.update(task, completed=done)
            case BatchDone():
                for task in self.tasks.values():
                    done = (event.epoch - 1) * self.batches + event.batch
                    self.bars.update(task, completed=done)
            case EpochDone(rows=rows):
                for row in rows:
                    if row["arm"] in self.tasks:  # not where this was the arm's last epoch
                        status = epoch_text(row, self.epochs)
                        self.bars.update(self.tasks[row["arm"]], status=status)
            case EndedEarly():
                self._stop(event.arm, f"ended early after epoch {event.epoch}")
                self.print(event.sentence)
            case ArmStopped():
                self._stop(event.arm, f"stopped: {event.term} is not finite")
                self.print(event.sentence)
            case _:
                super().show(event)

    def _stop(self, arm: str, status: str) -> None:
        task = self.tasks.pop(arm, None)
        if task is not None:  # not of another stream, where several run at once
            self.bars.update(task, status=status)
            self.bars.stop_task(task)

    def _task(self, name: str, total: int, prefix: str = "") -> TaskID:
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(f"{prefix}{name}", total=total, status="")
        return self.tasks[name]


def epoch_text(row: Mapping[str, Any], epochs: int) -> str:
    """Return an arm's epoch in one line: terms and test accuracy."""
    epoch = f"{row['epoch']:>{len(str(epochs))}}/{epochs}"
    return (
        f"epoch {epoch}  kl {row['kl']:.4f}  rank {row['rank']:+.4f}  "
        f"ce {row['ce']:.4f}  test {row['test_acc']:.2f} %"
    )


def epochs_text(event: StreamStarted) -> str:
    """Return how long the stream's training is, and how much of it is done."""
    text = f"{event.epochs} epochs of {event.batches} batches"
    if event.epochs_done or event.batches_done:
        text += f", going on after epoch {event.epochs_done}"
    return text + (f" and {event.batches_done} batches" if event.batches_done else "")


def teacher_epoch_line(event: TeacherEpoch) -> str:
    """Return the teacher's epoch in one line."""
    return (
        f"teacher epoch {event.epoch}/{event.epochs}  ce {event.loss:.4f}  "
        f"train {event.train_acc:.2f} %"
    )


def milestone_line(event: Event) -> str:
    """Return the line of an event that is shown once, or nothing."""
    match event:
        case Note(text):
            return f"{text} …"
        case DatasetReady(facts):
            return dataset_line(facts)
        case TeacherReady(facts):
            return teacher_line(facts)
        case StreamStarted():
            names = ", ".join(arm.name for arm in event.arms)
            return f"seed {event.seed}: {names}, {epochs_text(event)}"
        case ArmStopped() | EndedEarly():
            return event.sentence
    return ""
