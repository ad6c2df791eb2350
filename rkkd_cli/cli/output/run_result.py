"""What a command prints of a run that has ended, and the exit status."""

import json
from typing import Any, Protocol

import typer

from rkkd_cli.analysis.summary import RunSummaries, summarise_run
from rkkd_cli.api.ended_run import EndedRun
from rkkd_cli.api.ending import ignore_signals
from rkkd_cli.cli.output.console import err, out, print_line
from rkkd_cli.cli.output.grid_result import GridResult
from rkkd_cli.cli.output.tables import print_summary


class Result(Protocol):
    """What a command prints of a run that has ended."""

    @property
    def next_commands(self) -> dict[str, str]:
        """What to do with the run now: commands to paste, and what they do."""

    def as_json(self) -> dict[str, Any]:
        """Return the result as one JSON object."""

    def print(self) -> None:
        """Print the tables and the files."""


class RunResult:
    """The result of `rkkd run`: summary, metrics and figures."""

    def __init__(self, ended: EndedRun) -> None:
        self.run, self.manifest = ended.run, ended.manifest
        self.metrics, self.figures = ended.metrics, ended.files

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
            "directory": str(self.run.path),
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


def print_result(ended: EndedRun | None, quiet: bool, as_json: bool) -> None:
    """Print what a run has come to, as JSON, as its folder or as text; exit with 1 if arms stopped.

    Of several ranks, only rank 0 has it.
    """
    if ended is None:
        return
    ignore_signals()
    result: Result = RunResult(ended) if ended.grid is None else GridResult(ended, ended.grid)
    if as_json:
        typer.echo(json.dumps(result.as_json()))
    elif quiet:
        print_line(out, str(ended.run.path))
    else:
        result.print()
        width = max(map(len, result.next_commands), default=0)
        for number, (command, purpose) in enumerate(result.next_commands.items()):
            print_line(err, f"{'' if number else 'next:':5} {command:{width}}  # {purpose}")
    raise typer.Exit(1 if ended.manifest.stopped else 0)
