"""A run that has ended, and what there is to say of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from rkkd_cli.cli.output.console import out
from rkkd_cli.cli.output.tables import Summaries, print_summary, summaries_of
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.run_directory import RunDirectory

if TYPE_CHECKING:
    from pandas import DataFrame


class Result(Protocol):
    """An ended run, and what there is to say of it."""

    @property
    def path(self) -> str:
        """The run's folder."""

    @property
    def exit_status(self) -> int:
        """The program's."""

    def as_json(self) -> dict[str, Any]:
        """Return the result as one JSON object."""

    def print(self) -> None:
        """Print tables and files."""


@dataclass(frozen=True)
class RunResult:
    """An ended run with its manifest and figures."""

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
        """1 if an arm had to be stopped."""
        return 1 if self.manifest.stopped else 0

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
            print_summary(out, summaries, self.manifest.students)
        for path in (self.run.metrics, *self.figures):
            out.print(str(path), markup=False, highlight=False, soft_wrap=True)

    def _summaries(self) -> Summaries:
        return summaries_of(self.metrics, self.manifest)


def say_result(result: Result, quiet: bool, as_json: bool) -> None:
    """Print the result in the wanted way, and exit with its status."""
    if as_json:
        typer.echo(json.dumps(result.as_json()))
    elif quiet:
        typer.echo(result.path)
    else:
        result.print()
    raise typer.Exit(result.exit_status)


def ended(run: RunDirectory, manifest: Manifest, metrics: "DataFrame") -> RunResult:
    """Draw the run's figures as PNG; a run without rows has none."""
    from rkkd_cli.report.curves import draw_figures

    figures = draw_figures([(run.name, metrics)], run.figures, ["png"]) if len(metrics) else []
    return RunResult(run, manifest, metrics, figures)
