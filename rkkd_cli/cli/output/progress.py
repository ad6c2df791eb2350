"""Progress of a training: a bar per arm on a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from typing import Any, Self

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from rkkd_cli.cli.output.console import OutputConsole, print_line
from rkkd_cli.report.run_text import dataset_text, teacher_text
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

WIDTH_FOR_BARS = 100  # in a narrower terminal there is only text, which is folded


def make_reporter(console: OutputConsole, quiet: bool) -> "SilentReporter":
    """Return a silent reporter, one with bars for a terminal, or one that prints lines."""
    if quiet:
        return SilentReporter()
    return BarReporter(console) if console.is_live else LineReporter(console)


class SilentReporter:
    """Shows no events. A context manager, so that a live display always ends."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, event: Event) -> None:
        """Show nothing."""


class LineReporter(SilentReporter):
    """Prints a line per milestone, and one per arm and epoch."""

    def __init__(self, console: OutputConsole) -> None:
        self.console = console
        self.epochs = 0

    def show(self, event: Event) -> None:
        """Print the event, except a finished batch."""
        match event:
            case StreamStarted(epochs=epochs):
                self.epochs = epochs
                self.print(milestone_line(event))
            case TeacherEpoch():
                self.print(teacher_epoch_line(event))
            case EpochDone(rows=rows):
                for row in rows:
                    self.print(f"seed {row['seed']}  {row['arm']}  {epoch_text(row, self.epochs)}")
            case TeacherReady(facts):
                self.print(milestone_line(event))
                for note in facts.get("notes", ()):
                    self.print(f"rkkd: warning: {note}")
            case _:
                text = milestone_line(event)
                if text:
                    self.print(text)

    def print(self, text: str) -> None:
        """Print one line of plain text."""
        print_line(self.console, text)


class BarReporter(LineReporter):
    """Shows a progress bar per arm of the running stream, below the lines of the milestones."""

    def __init__(self, console: OutputConsole) -> None:
        super().__init__(console)
        name, status = (
            TextColumn(text, markup=False, table_column=Column(overflow="fold"))
            for text in ("{task.description}", "{task.fields[status]}")
        )
        left = TimeRemainingColumn(elapsed_when_finished=True)
        has_room = console.width >= WIDTH_FOR_BARS
        columns = (name, BarColumn(bar_width=16), status, left) if has_room else (name, status)
        self.bars = Progress(*columns, console=console)
        self.tasks: dict[str, TaskID] = {}
        self.batches = 1

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def show(self, event: Event) -> None:
        """Update the bars, or print a line above them."""
        match event:
            case TeacherEpoch():
                task = self._get_task("teacher", event.epochs)
                status = teacher_epoch_line(event).removeprefix("teacher ")
                self.bars.update(task, completed=event.epoch, status=status)
            case StreamStarted():
                self.batches, self.epochs, self.tasks = event.batches, event.epochs, {}
                done = event.epochs_done * event.batches + event.batches_done
                for arm in event.arms:
                    total = event.epochs * event.batches
                    task = self._get_task(arm.name, total, f"seed {event.seed} ")
                    self.bars.update(task, completed=done)
            case BatchDone():
                for task in self.tasks.values():
                    done = (event.epoch - 1) * self.batches + event.batch
                    self.bars.update(task, completed=done)
            case EpochDone(rows=rows):
                for row in rows:
                    if row["arm"] in self.tasks:  # not if the arm has just ended early
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
        if task is not None:  # else the arm is of another stream that runs at the same time
            self.bars.update(task, status=status)
            self.bars.stop_task(task)

    def _get_task(self, name: str, total: int, prefix: str = "") -> TaskID:
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(f"{prefix}{name}", total=total, status="")
        return self.tasks[name]


def epoch_text(row: Mapping[str, Any], epochs: int) -> str:
    """Return an arm's epoch as text: its number, terms and test accuracy."""
    epoch = f"{row['epoch']:>{len(str(epochs))}}/{epochs}"
    return (
        f"epoch {epoch}  kl {row['kl']:.4f}  rank {row['rank']:+.4f}  "
        f"ce {row['ce']:.4f}  test {row['test_acc']:.2f} %"
    )


def epochs_text(event: StreamStarted) -> str:
    """Return the number of the stream's epochs and batches, and how many are done."""
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
    """Return the line of a milestone, or an empty string for any other event."""
    match event:
        case Note(text):
            return f"{text} …"
        case DatasetReady(facts):
            return f"dataset {dataset_text(facts)}"
        case TeacherReady(facts):
            return f"teacher {teacher_text(facts)}"
        case StreamStarted():
            names = ", ".join(arm.name for arm in event.arms)
            return f"seed {event.seed}: {names}, {epochs_text(event)}"
        case ArmStopped() | EndedEarly():
            return event.sentence
    return ""
