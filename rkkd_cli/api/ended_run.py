"""What is made of a run that has ended: figures, a grid's table, and what the loggers get of it."""

from dataclasses import dataclass
from pathlib import Path

from pandas import DataFrame

from rkkd_cli.analysis.grid_run import GridRecord
from rkkd_cli.analysis.record import RunRecord
from rkkd_cli.analysis.summary import summarise_run, summary_table
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.files import write_atomically
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.loggers import Loggers


@dataclass(frozen=True)
class EndedRun:
    """A run that has ended, what it has recorded, and the files that were made of that.

    ``grid`` has the cells of a run that varies keys.
    """

    run: RunDirectory
    manifest: Manifest
    metrics: DataFrame
    files: list[Path]
    grid: GridRecord | None = None


def finish_run(
    run: RunDirectory,
    manifest: Manifest,
    experiment: Experiment,
    metrics: DataFrame,
    loggers: Loggers,
    *,
    figures: bool,
    published: str | None,
) -> EndedRun:
    """Draw the ``figures`` as PNG if wanted, write a grid's grid.csv, and log all that.

    ``published`` is the file or preset of the published values that a grid is compared with.
    """
    grid, files = None, list[Path]()
    if experiment.vary:
        grid = GridRecord.of(run, manifest, experiment, metrics, published=published)
        files.append(run.path / "grid.csv")
        write_atomically(files[0], grid.frame.to_csv(index=False, lineterminator="\n"))
    if figures and len(metrics):
        from rkkd_cli.report.figures import figures_of_grid, figures_of_runs, save_figures

        record = RunRecord(run.name, experiment, manifest, metrics, manifest.status)
        drawn = figures_of_grid(grid) if grid else figures_of_runs([record], [run])
        files += save_figures(drawn, run.figures, ["png"])
    if loggers.loggers:
        loggers.files(run, summary_table(summarise_run(metrics, manifest).last))
    return EndedRun(run, manifest, metrics, files, grid)
