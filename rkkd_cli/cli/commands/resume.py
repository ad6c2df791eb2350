"""``rkkd resume``: go on with a run that was interrupted."""

from dataclasses import replace
from pathlib import Path

import typer

from rkkd_cli.cli.flags.experiment import DEVICE, EPOCHS, WORDS
from rkkd_cli.cli.flags.flag import takes
from rkkd_cli.cli.flags.runs import CHECKPOINT_MINUTES, FIGURES, JSON, LOGGERS, OUT, QUIET, RUN
from rkkd_cli.cli.runtime.torchrun import from_first
from rkkd_cli.config.overrides import Override
from rkkd_cli.errors import UserError


@takes(
    RUN,
    replace(WORDS, metavar="KEY=VALUE", help="Overrides, as long as they change no number."),
    EPOCHS, DEVICE, CHECKPOINT_MINUTES, OUT, LOGGERS, FIGURES, QUIET, JSON,
)  # fmt: skip
def resume(
    ctx: typer.Context,
    run: str,
    preset: str | None,
    overrides: list[Override],
    checkpoint_minutes: float,
    out: Path,
    loggers: tuple[str, ...],
    figures: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Go on with an interrupted run: its metrics.csv ends as if nothing had happened.

    More --epochs than it began with are possible where the schedule does not depend on them.
    """
    from rkkd_cli.records.run_directory import open_run

    if preset is not None:
        raise UserError(f"{preset!r} is no KEY=VALUE; a run is resumed as it was begun")
    begun = from_first(ctx.obj, lambda: open_run(run, out))
    from rkkd_cli.cli.output.run_result import print_result
    from rkkd_cli.cli.runtime.engines import single_job_engine
    from rkkd_cli.cli.runtime.execute import Executor, RunOptions
    from rkkd_cli.cli.runtime.requests import ExperimentRequest

    request = ExperimentRequest(None, overrides, from_record=True)
    options = RunOptions(checkpoint_minutes, quiet, loggers, figures)
    executor = Executor(single_job_engine(ctx.obj), options, ctx.obj)
    print_result(executor.resume(begun, request), quiet, as_json)
