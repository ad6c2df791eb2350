"""What ``rkkd watch`` does: read the files of a run repeatedly, and show its progress."""

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rkkd_cli.analysis.summary import ArmProgress, progress_by_arm
from rkkd_cli.api.run_progress import Countdown, time_left
from rkkd_cli.cli.output.console import MARGIN, out, print_line, print_table
from rkkd_cli.cli.output.tables import narrowed
from rkkd_cli.config.presets import read_experiment
from rkkd_cli.config.tasks import task_of
from rkkd_cli.errors import UserError, printable
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.metrics import read_unfinished_metrics
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.report.run_text import RESUME_ADVICE
from rkkd_cli.report.sparkline import sparkline
from rkkd_cli.report.words import short_name

SPARKLINE_WIDTH = 16
SPARE = (8, 6, 7, 4, 5, 1, 2)  # what a narrow terminal does without: first the sparkline of KL
LINES_BESIDE_ARMS = 4  # of a snapshot, below its notes
RUNNING = "running"


def shown_metrics(arm: ArmProgress) -> dict[str, tuple[str, int]]:
    """Return the metrics that are shown, each with its label and its number of digits."""
    main = task_of(arm.metrics).main_column
    return {main: (f"{short_name(main)} (%)", 2), "rank": ("rank", 4), "kl": ("KL×T²", 4)}


class Plan(NamedTuple):
    """How much a run will train: the epochs of each arm, and the number of seeds."""

    epochs: Mapping[str, int]
    seeds: int


class Snapshot(NamedTuple):
    """The state of a run at one moment. ``left`` says how long it still takes, if that is known."""

    run: RunDirectory
    manifest: Manifest
    status: str
    arms: list[ArmProgress]
    plan: Plan
    left: str = ""

    def print(self) -> None:
        """Print all arms."""
        for line in self._lines():
            print_line(out, line)
        if self.arms:
            print_table(self._table(len(self.arms)))

    def render(self) -> Group:
        """Return as many arms as a terminal has room for: those whose rows are the newest."""
        lines = [Text(printable(line)) for line in self._lines()]
        height = sum(-(-line.cell_len // out.width) for line in lines) + LINES_BESIDE_ARMS
        shown = max(1, out.height - height)
        hidden = len(self.arms) - shown
        more = [Text(f"… and {hidden} more arms")] if hidden > 0 else []
        return Group(*lines, *([self._table(shown)] if self.arms else []), *more)

    def _table(self, max_arms: int) -> Table:
        header = ["arm", "seeds", "epoch"]
        for label, _ in shown_metrics(self.arms[0]).values():
            header += [label, ""]
        rows = [self._row(arm) for arm in self.arms[-max_arms:]]
        return narrowed(header, rows, SPARE, out, MARGIN)[0]

    def _lines(self) -> list[str]:
        nothing = [] if self.arms else ["no epoch has been finished yet"]
        return [self._headline(), *self._notes(), *nothing]

    def count_epochs(self) -> tuple[int, int]:
        """Return how many epochs are done, and how many there are, of all arms and seeds."""
        done = sum(epoch for arm in self.arms for epoch in arm.epochs.values())
        return done, sum(self.plan.epochs.values()) * self.plan.seeds

    @property
    def skipped(self) -> int:
        """The epochs that arms do not train since they have ended early."""
        ends = self.manifest.ended_early
        return sum(self.plan.epochs.get(end["arm"], end["epoch"]) - end["epoch"] for end in ends)

    def _headline(self) -> str:
        done, total = self.count_epochs()
        epochs = f", {done} of {total} epochs" if total else ""
        left = f", about {self.left}" if self.left else ""
        process = f" (process {self.manifest.process})" if self.status == RUNNING else ""
        started = f"started {self.manifest.started}"
        return f"{self.run.path}: {self.status}{process}, {started}{epochs}{left}"

    def _notes(self) -> list[str]:
        notes = list(self.manifest.stopped)
        if any(max(arm.epochs.values()) > arm.epoch for arm in self.arms):
            notes.append("means over seeds, at the last epoch that all begun seeds have reached")
        if self.manifest.ended_early:
            notes.append(f"{len(self.manifest.ended_early)} arms and seeds ended early")
        if self.manifest.reason:
            notes.append(self.manifest.reason)
        if self.status in RESUME_ADVICE:
            notes.append(RESUME_ADVICE[self.status].format(self.run.handle))
        return notes

    def _row(self, arm: ArmProgress) -> list[str]:
        first, last = min(arm.epochs.values()), max(arm.epochs.values())
        epoch = str(last) if first == last else f"{first}–{last}"
        of_total = f"/{self.plan.epochs[arm.arm]}" if arm.arm in self.plan.epochs else ""
        cells = [arm.arm, str(len(arm.epochs)), epoch + of_total]
        for metric, (_, digits) in shown_metrics(arm).items():
            progress = arm.metrics[metric]
            cells += [f"{progress.now:.{digits}f}", sparkline(progress.curve, SPARKLINE_WIDTH)]
        return cells


def take_snapshot(run: RunDirectory, plan: Plan | None = None) -> Snapshot:
    """Read the run's files. A row that is being written is left for the next snapshot."""
    manifest = run.read_manifest()
    status = run.status(manifest)
    if status != RUNNING:  # it may have ended in between: read its last manifest
        manifest = run.read_manifest()
        status = run.status(manifest)
    arms = progress_by_arm(read_unfinished_metrics(run.metrics), manifest.cells_ended_early)
    return Snapshot(run, manifest, status, arms, plan or _read_plan(run))


def _read_plan(run: RunDirectory) -> Plan:
    """Return the run's plan, which is empty if its experiment cannot be read."""
    try:
        experiment = read_experiment(run.experiment)
    except UserError:
        return Plan({}, 0)
    epochs = {arm.name: arm.experiment.training.epochs for arm in experiment.resolved_arms}
    return Plan(epochs, len(experiment.seeds))


def follow(run: RunDirectory, seconds: float) -> int:
    """Show the run every so many seconds until it ends. Return the exit status: 1 if it died."""
    if out.is_live:
        with Live(console=out, auto_refresh=False) as live:
            for snapshot in _snapshots(run, seconds):
                live.update(snapshot.render(), refresh=True)
    else:
        printed = None
        for snapshot in _snapshots(run, seconds):
            state = (snapshot.status, snapshot.arms, snapshot.manifest.stopped)
            if state != printed:
                snapshot.print()
                printed = state
    return 1 if snapshot.status == "dead" else 0


def _snapshots(run: RunDirectory, seconds: float) -> Iterator[Snapshot]:
    """Yield the run's state every so many seconds; the last one when the run has ended."""
    plan, countdown = _read_plan(run), Countdown()
    while True:
        snapshot = take_snapshot(run, plan)
        done, total = snapshot.count_epochs()
        countdown.reach(done)
        is_running = snapshot.status == RUNNING
        left = time_left(countdown.seconds_left(total - snapshot.skipped)) if is_running else ""
        yield snapshot._replace(left=left)
        if not is_running:
            return
        time.sleep(seconds)
