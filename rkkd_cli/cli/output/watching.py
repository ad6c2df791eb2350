"""What ``rkkd watch`` does: look at the files of a run again and again."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rkkd_cli.analysis.summary import ArmProgress, progress_by_arm
from rkkd_cli.cli.output.console import out, wide
from rkkd_cli.cli.output.tables import plain_table
from rkkd_cli.config.presets import read_experiment
from rkkd_cli.errors import UserError, printable
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.metrics import read_unfinished_metrics
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.report.sparkline import sparkline

LABELS = {"rank": ("rank", 4), "kl": ("KL×T²", 4), "test_acc": ("test acc (%)", 2)}
WIDTH = 16  # of a sparkline
LINES_BESIDE = 6  # of a frame, beside the arms
RUNNING = "running"
NEXT = {
    "dead": "its process has gone; `rkkd resume {}` goes on",
    "interrupted": "`rkkd resume {}` goes on",
    "failed": "`rkkd resume {}` goes on",
}


Planned = tuple[Mapping[str, int], int]  # the epochs of each arm, and how many seeds


class Frame(NamedTuple):
    """How a run stands at one moment."""

    run: RunDirectory
    manifest: Manifest
    status: str
    arms: list[ArmProgress]
    epochs: Mapping[str, int]
    seeds: int

    @property
    def has_ended(self) -> bool:
        """Tell whether nobody is training it."""
        return self.status != RUNNING

    def print(self) -> None:
        """Print it once."""
        console = out if out.is_terminal else wide
        console.print(self.shown(len(self.arms)))
        console.file.flush()

    def shown(self, most: int) -> Group:
        """Return it with at most so many arms: those whose rows are the newest."""
        lines = [Text(printable(line)) for line in [self._headline(), *self._sentences()]]
        if not self.arms:
            return Group(*lines, Text("no epoch has been finished yet"))
        left_out = len(self.arms) - most
        more = [Text(f"… and {left_out} more arms")] if left_out > 0 else []
        return Group(*lines, self._table(self.arms[-most:]), *more)

    def _headline(self) -> str:
        done = sum(epoch for arm in self.arms for epoch in arm.epochs.values())
        wanted = sum(self.epochs.values()) * self.seeds
        far = f", {done} of {wanted} epochs" if wanted else ""
        process = f" (process {self.manifest.process})" if self.status == RUNNING else ""
        return f"{self.run.path}: {self.status}{process}, started {self.manifest.started}{far}"

    def _sentences(self) -> list[str]:
        advice = NEXT.get(self.status)
        reason = [self.manifest.reason] if self.manifest.reason else []
        early = len(self.manifest.ended_early)
        ended = [f"{early} arms and seeds ended early"] if early else []
        told = [advice.format(self.run.handle)] if advice else []
        return [*self.manifest.stopped, *ended, *reason, *told]

    def _table(self, arms: Sequence[ArmProgress]) -> Table:
        header = ["arm", "seeds", "epoch"]
        for label, _ in LABELS.values():
            header += [label, ""]
        return plain_table(header, [self._row(arm) for arm in arms])

    def _row(self, arm: ArmProgress) -> list[str]:
        first, last = min(arm.epochs.values()), max(arm.epochs.values())
        epoch = str(last) if first == last else f"{first}–{last}"
        whole = f"/{self.epochs[arm.arm]}" if arm.arm in self.epochs else ""
        cells = [arm.arm, str(len(arm.epochs)), epoch + whole]
        for name, (_, digits) in LABELS.items():
            watched = arm.metrics[name]
            cells += [f"{watched.now:.{digits}f}", sparkline(watched.curve, WIDTH)]
        return cells


def look(run: RunDirectory, planned: Planned | None = None) -> Frame:
    """Read how the run stands; a row that is being written is left for the next time."""
    manifest = run.read_manifest()
    status = run.status(manifest)
    if status != RUNNING:  # what it wrote last must be seen
        manifest = run.read_manifest()
        status = run.status(manifest)
    arms = progress_by_arm(read_unfinished_metrics(run.metrics))
    return Frame(run, manifest, status, arms, *(planned or _planned(run)))


def _planned(run: RunDirectory) -> Planned:
    """Return the epochs of each arm, and how many seeds there are; nothing where unreadable."""
    try:
        experiment = read_experiment(run.experiment)
        arms = experiment.resolved_arms
    except UserError:
        return {}, 0
    return {arm.name: arm.experiment.training.epochs for arm in arms}, len(experiment.seeds)


def follow(run: RunDirectory, seconds: float) -> int:
    """Show the run until it ends; return the exit status: 1 if its process died."""
    frame = _follow_live(run, seconds) if out.is_terminal else _follow_lines(run, seconds)
    return 1 if frame.status == "dead" else 0


def _follow_live(run: RunDirectory, seconds: float) -> Frame:
    planned = _planned(run)
    with Live(console=out, auto_refresh=False) as live:
        while True:
            frame = look(run, planned)
            live.update(frame.shown(max(1, out.height - LINES_BESIDE)), refresh=True)
            if frame.has_ended:
                return frame
            time.sleep(seconds)


def _follow_lines(run: RunDirectory, seconds: float) -> Frame:
    planned, shown = _planned(run), None
    while True:
        frame = look(run, planned)
        news = (frame.status, frame.arms, frame.manifest.stopped)
        if news != shown:
            frame.print()
            shown = news
        if frame.has_ended:
            return frame
        time.sleep(seconds)
