"""What is made of a run that has ended: figures, a grid's table, and what the loggers get of it."""

from pandas import DataFrame

from rkkd_cli.analysis.grid_run import GridRecord
from rkkd_cli.analysis.summary import summarise_run, summary_table
from rkkd_cli.cli.output.grid_result import make_grid_result
from rkkd_cli.cli.output.run_result import Result, make_run_result
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.loggers import Loggers


def make_result(
    run: RunDirectory,
    manifest: Manifest,
    experiment: Experiment,
    metrics: DataFrame,
    loggers: Loggers,
    *,
    figures: bool,
    published: str | None,
) -> Result:
    """Draw the ``figures`` if wanted, write a grid's grid.csv, and log all that.

    ``published`` is the file or preset of the published values that a grid is compared with.
    """
    if experiment.vary:
        grid = GridRecord.of(run, manifest, experiment, metrics, published=published)
        result: Result = make_grid_result(grid, figures)
    else:
        result = make_run_result(run, manifest, metrics, figures)
    if loggers.loggers:
        loggers.files(run, summary_table(summarise_run(metrics, manifest).last))
    return result
