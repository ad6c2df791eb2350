"""The result of a run: its summary, its files and the exit status."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from rkkd_cli.analysis.summary import RunSummaries, summarise_run
from rkkd_cli.api.ending import ignore_signals
from rkkd_cli.cli.output.console import err, out, print_line
from rkkd_cli.cli.output.tables import print_summary
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.run_directory import RunDirectory

if TYPE_CHECKING:
    from pandas import DataFrame


class Result(Protocol):
    """What a command reports of a run that has ended."""

    @property
    def path(self) -> str:
        """The run's folder."""

    @property
    def exit_status(self) -> int:
        """The exit status of the program."""

    @property
    def next_commands(self) -> dict[str, str]:
        """What to do with the run now: commands to paste, and what they do."""

    def as_json(self) -> dict[str, Any]:
        """Return the result as one JSON object."""

    def print(self) -> None:
        """Print the tables and the files."""


@dataclass(frozen=True)
class RunResult:
    """The result of `rkkd run`: manifest, metrics and figures."""

    run: RunDirectory
    manifest: Manifest
    metrics: "DataFrame"
    figures: list[Path]

    @property
    def path(self) -> str:
        """The run's folder."""
        return str(self.run.path)

    @property
    def exit_status(self) -> int:
        """1 if an arm was stopped."""
        return 1 if self.manifest.stopped else 0

    @property
    def next_commands(self) -> dict[str, str]:
        """A page of the run, and the differences between its arms."""
        arms = self.metrics["arm"].nunique()
        handle = self.run.handle
        commands = {f"rkkd report {handle}": "one HTML page"} if arms else {}
        if arms > 1:
            commands[f"rkkd compare {handle}"] = "how sure the differences are"
        return commands

    def as_json(self) -> dict[str, Any]:
        """Return the result as one JSON object."""
        return {
            "run": self.run.name,
            "status": self.manifest.status,
            "stopped": self.manifest.stopped,
            "directory": self.path,
            "metrics": str(self.run.metrics),
            "figures": [str(path) for path in self.figures],
            "datasets": self.manifest.datasets,
            "teachers": self.manifest.teachers,
            "students": self.manifest.students,
            "ended_early": self.manifest.ended_early,
        } | self._summaries().as_json()

    def print(self) -> None:
        """Print the summary table and the files."""
        summaries = self._summaries()
        if summaries.last:
            out.print()
            print_summary(summaries, self.manifest.students)
        for path in (self.run.metrics, *self.figures):
            print_line(out, str(path))

    def _summaries(self) -> RunSummaries:
        return summarise_run(self.metrics, self.manifest)


def print_result(result: Result | None, quiet: bool, as_json: bool) -> None:
    """Print the result as JSON, as the run's folder or as text, and exit with its status.

    Of several ranks, only rank 0 has one.
    """
    if result is None:
        return
    ignore_signals()
    if as_json:
        typer.echo(json.dumps(result.as_json()))
    elif quiet:
        print_line(out, result.path)
    else:
        result.print()
        width = max(map(len, result.next_commands), default=0)
        for number, (command, purpose) in enumerate(result.next_commands.items()):
            print_line(err, f"{'' if number else 'next:':5} {command:{width}}  # {purpose}")
    raise typer.Exit(result.exit_status)


def make_run_result(
    run: RunDirectory, manifest: Manifest, metrics: "DataFrame", figures: bool
) -> RunResult:
    """Draw the ``figures`` as PNG if wanted and there are rows, and return the run's result."""
    if not figures or not len(metrics):
        return RunResult(run, manifest, metrics, [])
    from rkkd_cli.analysis.pairing import RunRecord
    from rkkd_cli.config.presets import read_experiment
    from rkkd_cli.report.curves import draw_figures
    from rkkd_cli.report.detections import draw_detections
    from rkkd_cli.report.retrieval import draw_retrieval

    experiment = read_experiment(run.experiment)
    record = RunRecord(run.name, experiment, manifest, metrics, manifest.status)
    drawn = draw_figures([record], run.figures, ["png"])
    drawn += draw_retrieval([run], [record], run.figures, ["png"])
    drawn += draw_detections([run], [record], run.figures, ["png"])
    return RunResult(run, manifest, metrics, drawn)
