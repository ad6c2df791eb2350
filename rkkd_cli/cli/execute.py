"""From a checked experiment to a finished run: train, record, show, draw."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rkkd_cli.analysis.summary import summarise
from rkkd_cli.cli.console import err, interruptible, out
from rkkd_cli.cli.progress import Reporter, make_reporter
from rkkd_cli.cli.tables import summary_json, summary_table
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.records.metrics import read_metrics
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.check import check_experiment
from rkkd_cli.sweep.local import run_jobs
from rkkd_cli.sweep.recorder import Recorder
from rkkd_cli.train.device import describe_device, pick_device, use_threads


@dataclass(frozen=True)
class Result:
    """A run that has ended, and what there is to say of it."""

    run: RunDirectory
    manifest: dict[str, Any]
    figures: list[Path]

    @property
    def path(self) -> str:
        """The run's folder."""
        return str(self.run.path)

    @property
    def exit_status(self) -> int:
        """1 if an arm had to be stopped."""
        return 1 if self.manifest["stopped"] else 0

    def as_json(self) -> dict[str, Any]:
        """Return the result as one JSON object."""
        return {
            "run": self.run.name,
            "status": self.manifest["status"],
            "stopped": self.manifest["stopped"],
            "directory": self.path,
            "metrics": str(self.run.metrics),
            "figures": [str(path) for path in self.figures],
            "datasets": self.manifest["datasets"],
            "teachers": self.manifest["teachers"],
            "summary": summary_json(summarise(read_metrics(self.run.metrics))),
        }

    def print(self) -> None:
        """Print the summary table and the files."""
        summaries = summarise(read_metrics(self.run.metrics))
        if summaries:
            out.print("\nLast epoch, mean ± sample standard deviation over n seeds:")
            out.print(summary_table(summaries))
        for path in (self.run.metrics, *self.figures):
            out.print(str(path), markup=False, highlight=False, soft_wrap=True)


def execute(experiment: Experiment, results: Path, name: str, or_next: bool, quiet: bool) -> Result:
    """Run the experiment to its end. Progress goes to stderr.

    ``or_next`` allows a suffix where the name was taken in the meantime.

    The manifest says how it ended, also when this raises.
    """
    cache = cache_directory()
    use_threads(experiment.threads)
    check_experiment(experiment, cache)
    device = pick_device(experiment.device)
    recorder = Recorder(experiment, results, name, describe_device(device), or_next)
    try:
        with interruptible(), make_reporter(err, quiet) as reporter:
            _consume(experiment, device, cache, recorder, reporter)
    except SystemExit:
        recorder.close("interrupted")
        raise
    except BaseException as error:
        recorder.close("failed", str(error))
        raise
    assert recorder.run is not None
    recorder.close("incomplete" if recorder.stopped else "finished")
    for event in recorder.stopped:
        err.print(f"rkkd: {event.sentence}", style="red", markup=False, soft_wrap=True)
    return Result(recorder.run, recorder.manifest, draw_run(recorder.run))


def _consume(
    experiment: Experiment,
    device: torch.device,
    cache: Path,
    recorder: Recorder,
    reporter: Reporter,
) -> None:
    for event in run_jobs(experiment, device, cache):
        recorder.take(event)
        reporter.show(event)


def draw_run(run: RunDirectory) -> list[Path]:
    """Draw the run's figures as PNG; a run without rows has none."""
    from rkkd_cli.report.curves import draw_figures

    metrics = read_metrics(run.metrics)
    return draw_figures([(run.name, metrics)], run.figures, ["png"]) if len(metrics) else []
