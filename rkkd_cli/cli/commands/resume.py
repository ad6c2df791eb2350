"""``rkkd resume``: go on with a run that was interrupted."""

from dataclasses import replace
from pathlib import Path

import typer

from rkkd_cli.api.options import ChosenLoggers, EngineOptions, RunOptions
from rkkd_cli.cli.flags.engine import ENGINE_OPTIONS
from rkkd_cli.cli.flags.experiment import DEVICE, EPOCHS, WORDS
from rkkd_cli.cli.flags.flag import takes
from rkkd_cli.cli.flags.runs import (
    ACCEPT_CHANGED_CODE,
    CHECKPOINT_MINUTES,
    FIGURES,
    JSON,
    LOGGERS,
    OUT,
    QUIET,
    RUN,
)
from rkkd_cli.cli.runtime.torchrun import from_first
from rkkd_cli.config.overrides import Override
from rkkd_cli.errors import UserError


@takes(
    RUN,
    replace(WORDS, metavar="KEY=VALUE", help="Overrides, as long as they change no number."),
    EPOCHS, DEVICE, ENGINE_OPTIONS, ACCEPT_CHANGED_CODE, CHECKPOINT_MINUTES, OUT, LOGGERS, FIGURES,
    QUIET, JSON,
)  # fmt: skip
def resume(
    ctx: typer.Context,
    run: str,
    preset: str | None,
    overrides: list[Override],
    engine_options: EngineOptions,
    accept_changed_code: bool,
    checkpoint_minutes: float,
    out: Path,
    loggers: ChosenLoggers,
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
    engine_options.check(several_ranks=ctx.obj is not None)
    begun = from_first(ctx.obj, lambda: open_run(run, out))
    from rkkd_cli.api.engines import make_engine
    from rkkd_cli.api.execute import Executor
    from rkkd_cli.api.requests import ExperimentRequest
    from rkkd_cli.cli.output.run_result import print_result
    from rkkd_cli.cli.runtime.terminal import Terminal

    request = ExperimentRequest(None, overrides, from_record=True)
    options = RunOptions(
        checkpoint_minutes, loggers, figures, accept_changed_code=accept_changed_code
    )
    engine = make_engine(engine_options, lambda: request.planned(begun), False, ctx.obj)
    executor = Executor(engine, options, Terminal(quiet), ctx.obj)
    print_result(executor.resume(begun, request), quiet, as_json)
