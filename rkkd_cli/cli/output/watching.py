"""What ``rkkd watch`` does: read the files of a run repeatedly, and show its progress."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rich.console import Group
from rich.live import Live
from rich.text import Text

from rkkd_cli.analysis.summary import ArmProgress, progress_by_arm
from rkkd_cli.cli.output.console import fits, out
from rkkd_cli.cli.output.tables import plain_table
from rkkd_cli.config.presets import read_experiment
from rkkd_cli.errors import UserError, printable
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.metrics import read_unfinished_metrics
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.report.sparkline import sparkline

# The shown metrics, each with its label and its number of digits.
METRICS = {"rank": ("rank", 4), "kl": ("KL×T²", 4), "test_acc": ("test acc (%)", 2)}
SPARKLINE_WIDTH = 16
LINES_BESIDE_ARMS = 6  # of a snapshot
RUNNING = "running"
RESUME_ADVICE = {
    "dead": "its process has gone; `rkkd resume {}` continues it",
    "interrupted": "`rkkd resume {}` continues it",
    "failed": "`rkkd resume {}` continues it",
}


class Plan(NamedTuple):
    """How much a run will train: the epochs of each arm, and the number of seeds."""

    epochs: Mapping[str, int]
    seeds: int


class Snapshot(NamedTuple):
    """The state of a run at one moment."""

    run: RunDirectory
    manifest: Manifest
    status: str
    arms: list[ArmProgress]
    plan: Plan

    def print(self) -> None:
        """Print all arms."""
        out.print(self.render(len(self.arms)))

    def render(self, max_arms: int) -> Group:
        """Return headline and table, with those ``max_arms`` arms whose rows are the newest."""
        lines = [Text(printable(line)) for line in [self._headline(), *self._notes()]]
        if not self.arms:
            return Group(*lines, Text("no epoch has been finished yet"))
        header = ["arm", "seeds", "epoch"]
        for label, _ in METRICS.values():
            header += [label, ""]
        rows = [self._row(arm) for arm in self.arms[-max_arms:]]
        table = plain_table(header, rows)
        hidden = len(self.arms) - max_arms
        more = [Text(f"… and {hidden} more arms")] if hidden > 0 else []
        if not fits(table, out):  # then each arm is a paragraph
            return Group(*lines, *(_paragraph(header, row) for row in rows), *more)
        return Group(*lines, table, *more)

    def _headline(self) -> str:
        done = sum(epoch for arm in self.arms for epoch in arm.epochs.values())
        total = sum(self.plan.epochs.values()) * self.plan.seeds
        epochs = f", {done} of {total} epochs" if total else ""
        process = f" (process {self.manifest.process})" if self.status == RUNNING else ""
        return f"{self.run.path}: {self.status}{process}, started {self.manifest.started}{epochs}"

    def _notes(self) -> list[str]:
        notes = list(self.manifest.stopped)
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
        for metric, (_, digits) in METRICS.items():
            progress = arm.metrics[metric]
            cells += [f"{progress.now:.{digits}f}", sparkline(progress.curve, SPARKLINE_WIDTH)]
        return cells


def _paragraph(header: Sequence[str], row: Sequence[str]) -> Text:
    cells = (f"{name} {cell}".strip() for name, cell in zip(header, row, strict=True))
    return Text(printable(" ".join(cells)))


def take_snapshot(run: RunDirectory, plan: Plan | None = None) -> Snapshot:
    """Read the run's files. A row that is being written is left for the next snapshot."""
    manifest = run.read_manifest()
    status = run.status(manifest)
    if status != RUNNING:  # it may have ended in between: read its last manifest
        manifest = run.read_manifest()
        status = run.status(manifest)
    arms = progress_by_arm(read_unfinished_metrics(run.metrics))
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
                live.update(snapshot.render(max(1, out.height - LINES_BESIDE_ARMS)), refresh=True)
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
    plan = _read_plan(run)
    while True:
        snapshot = take_snapshot(run, plan)
        yield snapshot
        if snapshot.status != RUNNING:
            return
        time.sleep(seconds)
