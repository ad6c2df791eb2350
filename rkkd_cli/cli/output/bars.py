"""The live display of a training: a bar for each arm, for the teacher and for the whole run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from rkkd_cli.api.run_progress import RunProgress, time_left
from rkkd_cli.cli.output.console import MARGIN
from rkkd_cli.cli.output.tables import narrowed
from rkkd_cli.config.tasks import TaskRecords
from rkkd_cli.errors import printable
from rkkd_cli.train.events import (
    ArmStopped,
    BatchDone,
    EndedEarly,
    EpochDone,
    Event,
    JobFailed,
    StreamStarted,
    TeacherBatch,
    TeacherEpoch,
    TeacherReady,
)

SPARE = (6, 5, 4, 2)  # what a narrow terminal does without: first ce, then kl, rank, the epoch
LINES_BESIDE_ARMS = 5  # of a screen
LONG_BAR, SHORT_BAR, WIDTH_FOR_LONG_BARS = 16, 8, 80


def shown_metrics(task: TaskRecords) -> dict[str, tuple[str, str]]:
    """Return the metrics of an arm, each with its heading and its form."""
    return {
        task.main_column: (f"test {task.value_prefix}(%)", ".2f"),
        "rank": ("rank", "+.4f"),
        "kl": ("kl", ".4f"),
        task.hard_term: (task.hard_term, ".4f"),
    }


@dataclass(eq=False)
class ArmBar:
    """How far an arm of a stream is.

    ``epoch`` is that of its newest ``row``. ``ending``: it ended before its time.
    """

    name: str
    task: TaskRecords
    epochs: int
    done: float
    epoch: int
    row: Mapping[str, Any] = field(default_factory=dict)
    ending: str = ""

    @property
    def is_running(self) -> bool:
        """Whether the arm still trains."""
        return not self.ending and self.done < self.epochs


@dataclass(eq=False)
class TeacherBar:
    """How far the teacher's training is, with its newest loss and accuracy."""

    epochs: int = 1
    done: float = 0.0
    epoch: int = 0
    metrics: tuple[str, str] = ("", "")


class Bars:
    """The lines below the milestones of a run: they follow its events."""

    def __init__(self, console: Console, progress: RunProgress) -> None:
        self.console, self.progress = console, progress
        self.arms: dict[tuple[str, str], ArmBar] = {}  # by stream and arm
        self.teacher: TeacherBar | None = None  # while it is trained

    def take(self, event: Event) -> None:
        """Follow an event, which the progress has counted before."""
        match event:
            case TeacherBatch() | TeacherEpoch():
                self._train_teacher(event)
            case TeacherReady():
                self.teacher = None
            case StreamStarted(stream=stream):
                done = event.epochs_done + event.batches_done / event.batches
                for arm in event.arms:
                    name = printable(f"seed {event.seed} {arm.name}")
                    self.arms[stream, arm.name] = ArmBar(
                        name, arm.experiment.task_records, event.epochs, done, event.epochs_done
                    )
            case BatchDone(stream, epoch, batch):
                batches = self.progress.streams[stream].batches
                for key, bar in self.arms.items():
                    if key[0] == stream and bar.is_running:
                        bar.done = epoch - 1 + batch / batches
            case EpochDone(stream=stream, epoch=epoch, rows=rows):
                for row in rows:
                    bar = self.arms[stream, row["arm"]]
                    bar.done, bar.epoch, bar.row = epoch, epoch, row
            case EndedEarly(stream=stream, arm=arm):
                self.arms[stream, arm].ending = "ended"
            case ArmStopped(stream=stream, arm=arm):
                self.arms[stream, arm].ending = "stopped"
            case JobFailed(stream=stream):
                self.arms = {key: bar for key, bar in self.arms.items() if key[0] != stream}

    def _train_teacher(self, event: TeacherBatch | TeacherEpoch) -> None:
        bar = self.teacher = self.teacher or TeacherBar()
        bar.epochs = event.epochs
        if isinstance(event, TeacherBatch):
            bar.done, bar.epoch = event.epoch - 1 + event.batch / event.batches, event.epoch - 1
        else:
            bar.done = bar.epoch = event.epoch
            accuracy = "" if event.train_acc is None else f"{event.train_acc:.2f}"
            bar.metrics = accuracy, f"{event.loss:.4f}"

    def render(self) -> Group:
        """Return the lines: no more than fit on the terminal."""
        arms = self._arms_to_show()
        running = [bar for bar in self.arms.values() if bar.is_running]
        hidden = len(running) - sum(bar.is_running for bar in arms)
        width = max([len("teacher"), *(cell_len(bar.name) for bar in arms)])
        lines: list[Table | Text] = []
        if arms:
            lines.append(self._arm_table(arms))
        if hidden:
            lines.append(Text(f"… and {hidden} more arms"))
        if self.teacher:
            lines.append(self._teacher_table(self.teacher, width))
        elif arms:
            lines.append(self._run_line(width))
        return Group(*lines)

    def _arms_to_show(self) -> list[ArmBar]:
        """Return as many arms as there is room for; those that run come before those that ended."""
        room = max(1, self.console.height - LINES_BESIDE_ARMS)
        jobs = list(self.progress.left)
        arms = [self.arms[key] for key in sorted(self.arms, key=lambda key: jobs.index(key[0]))]
        ended = [bar for bar in arms if not bar.is_running]
        for bar in ended[: max(0, len(arms) - room)]:
            arms.remove(bar)
        return arms[:room]

    def _arm_table(self, arms: list[ArmBar]) -> Table:
        headings = [heading for heading, _ in shown_metrics(arms[0].task).values()]
        header = ["", "", "epoch", *headings]
        rows: list[list[str | Text]] = [
            [bar.name, self._bar(bar.done / bar.epochs), *_numbers(bar)] for bar in arms
        ]
        return narrowed(header, rows, SPARE, self.console, MARGIN)[0]

    def _teacher_table(self, teacher: TeacherBar, width: int) -> Table:
        accuracy, loss = teacher.metrics
        header = ["", "", "epoch", "train (%)", "ce", ""]
        epoch = f"{teacher.epoch}/{teacher.epochs}"
        bar = self._bar(teacher.done / teacher.epochs)
        left = time_left(self.progress.teacher.seconds_left(teacher.epochs))
        row: list[str | Text] = ["teacher".ljust(width), bar, epoch, accuracy, loss, left]
        return narrowed(header, [row], (4, 2), self.console, MARGIN)[0]

    def _run_line(self, width: int) -> Text:
        share, left = self.progress.share_done, time_left(self.progress.seconds_left)
        bar = self._bar(share)
        return Text.assemble("run".ljust(width + 2), bar, f"  {100 * share:3.0f} %  {left}")

    def _bar(self, share: float) -> Text:
        """Return a bar of which this share is full."""
        width = LONG_BAR if self.console.width >= WIDTH_FOR_LONG_BARS else SHORT_BAR
        full = int(share * width)
        has_lines = self.console.encoding.startswith("utf")
        done, rest = ("━", "─") if has_lines else ("#", ".")
        color = "green" if full == width else "cyan"
        return Text.assemble((done * full, color), (rest * (width - full), "dim"))


def _numbers(bar: ArmBar) -> list[str]:
    """Return an arm's epoch and its metrics as text."""
    epoch = f"{bar.epoch}/{bar.epochs}" + (f" {bar.ending}" if bar.ending else "")
    shown = shown_metrics(bar.task).items()
    return [epoch, *(f"{bar.row[m]:{form}}" if bar.row else "" for m, (_, form) in shown)]
