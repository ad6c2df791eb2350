"""Progress of a training: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping
from typing import Any, Self

from rich.cells import cell_len, set_cell_size
from rich.live import Live

from rkkd_cli.api.run_progress import RunProgress, time_left
from rkkd_cli.cli.output.bars import Bars
from rkkd_cli.cli.output.console import OutputConsole, print_folded, print_line
from rkkd_cli.config.tasks import task_of
from rkkd_cli.report.run_text import dataset_text, teacher_text
from rkkd_cli.train.events import (
    ArmStopped,
    DatasetReady,
    EndedEarly,
    EpochDone,
    Event,
    JobFailed,
    Note,
    StreamStarted,
    TeacherEpoch,
    TeacherReady,
    Warned,
)

SECONDS_BETWEEN_FRAMES = 0.1
MAX_ARMS_NAMED = 8


def make_reporter(
    console: OutputConsole, quiet: bool, progress: RunProgress | None = None
) -> "SilentReporter":
    """Return a silent reporter, one with bars for a terminal, or one that prints lines.

    ``progress`` is that of a run; a teacher alone has none.
    """
    if quiet:
        return SilentReporter()
    reporter = BarReporter if console.is_live else LineReporter
    return reporter(console, progress or RunProgress((), 0))


class SilentReporter:
    """Shows no events. A context manager, so that a live display always ends."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, event: Event) -> None:
        """Show nothing."""


class LineReporter(SilentReporter):
    """Prints a line per milestone, and one per arm and epoch with the time that is left."""

    def __init__(self, console: OutputConsole, progress: RunProgress) -> None:
        self.console, self.progress = console, progress
        arms = (arm for job in progress.left.values() for arm in job)
        self.name_width = max(map(cell_len, arms), default=0)

    def show(self, event: Event) -> None:
        """Print the event, except a finished batch."""
        self.progress.take(event)
        match event:
            case TeacherEpoch():
                left = time_left(self.progress.teacher.seconds_left(event.epochs))
                self.print(f"{teacher_epoch_line(event)}  {left}")
            case EpochDone():
                epochs = self.progress.streams[event.stream].epochs
                left = time_left(self.progress.seconds_left)
                for row in event.rows:
                    arm = set_cell_size(row["arm"], self.name_width)
                    self.print(f"seed {row['seed']}  {arm}  {epoch_text(row, epochs)}  {left}")
            case _:
                self.print_milestone(event)

    def print_milestone(self, event: Event) -> None:
        """Print the line of an event that has one, and what it warns of."""
        text = milestone_line(event)
        if text:
            self.print(text)
        if isinstance(event, TeacherReady):
            for note in event.facts.get("notes", ()):
                self.print(f"rkkd: warning: {note}")

    def print(self, text: str) -> None:
        """Print one line of plain text."""
        print_line(self.console, text.rstrip())


class BarReporter(LineReporter):
    """Shows a bar for each arm, for the teacher and for the run, below the milestones' lines."""

    def __init__(self, console: OutputConsole, progress: RunProgress) -> None:
        super().__init__(console, progress)
        self.bars = Bars(console, progress)
        self.live = Live(console=console, auto_refresh=False, get_renderable=self.bars.render)
        self.last_frame = 0.0

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def show(self, event: Event) -> None:
        """Move the bars, and print the line of a milestone above them."""
        self.progress.take(event)
        self.bars.take(event)
        self.print_milestone(event)
        now = time.monotonic()
        if now - self.last_frame >= SECONDS_BETWEEN_FRAMES:
            self.last_frame = now
            self.live.refresh()

    def print(self, text: str) -> None:
        """Print plain text, folded between words."""
        print_folded(self.console, text)


def epoch_text(row: Mapping[str, Any], epochs: int) -> str:
    """Return an arm's epoch as text: its number, main metric and terms, in columns."""
    task = task_of(row)
    main, hard = f"{task.value_prefix}{row[task.main_column]:6.2f} %", task.hard_term
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  test {main}  "
        f"rank {row['rank']:+.4f}  kl {row['kl']:7.4f}  {hard} {row[hard]:7.4f}"
    )


def epochs_text(event: StreamStarted) -> str:
    """Return the number of the stream's epochs and batches, and how many are done."""
    text = f"{event.epochs} epochs of {event.batches} batches"
    if event.epochs_done or event.batches_done:
        text += f", going on after epoch {event.epochs_done}"
    return text + (f" and {event.batches_done} batches" if event.batches_done else "")


def teacher_epoch_line(event: TeacherEpoch) -> str:
    """Return the teacher's epoch in one line."""
    accuracy = "" if event.train_acc is None else f"train {event.train_acc:6.2f} %  "
    return (
        f"teacher epoch {event.epoch:>{len(str(event.epochs))}}/{event.epochs}  "
        f"{accuracy}{event.term} {event.loss:7.4f}"
    )


def milestone_line(event: Event) -> str:
    """Return the line of a milestone, or an empty string for any other event."""
    match event:
        case Note(text):
            return f"{text} …"
        case Warned(text):
            return f"rkkd: warning: {text}"
        case DatasetReady(facts):
            return f"dataset {dataset_text(facts)}"
        case TeacherReady(facts):
            return f"teacher {teacher_text(facts)}"
        case StreamStarted():
            names = ", ".join(arm.name for arm in event.arms[:MAX_ARMS_NAMED])
            hidden = len(event.arms) - MAX_ARMS_NAMED
            names += f" and {hidden} more arms" if hidden > 0 else ""
            return f"seed {event.seed}: {names}, {epochs_text(event)}"
        case ArmStopped() | EndedEarly():
            return event.sentence
        case JobFailed():
            return f"seed {event.seed}, {', '.join(event.arms)}: given up: {event.reason}"
    return ""
