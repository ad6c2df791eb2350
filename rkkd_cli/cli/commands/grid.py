"""``rkkd grid``: train every combination of the values of some keys."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rkkd_cli.api.options import ChosenLoggers, EngineOptions, RunOptions
from rkkd_cli.cli.flags.engine import ENGINE_OPTIONS
from rkkd_cli.cli.flags.experiment import COMPUTE, DATA, MODELS, TRAINING, WORDS
from rkkd_cli.cli.flags.flag import takes
from rkkd_cli.cli.flags.grid import (
    CELLS_PER_JOB,
    FAIL_FAST,
    GRID_AXES,
    GRID_CELLS,
    GRID_NAME,
    PUBLISHED_GRID,
    RETRY_FAILED,
)
from rkkd_cli.cli.flags.runs import (
    ACCEPT_CHANGED_CODE,
    CHECKPOINT_MINUTES,
    DRY_RUN,
    FIGURES,
    JSON,
    LOGGERS,
    OUT,
    QUIET,
    TITLE,
)
from rkkd_cli.cli.runtime.torchrun import from_first
from rkkd_cli.config.overrides import Override

if TYPE_CHECKING:
    from rkkd_cli.config.grid import CellSelection


@takes(
    WORDS, GRID_AXES, GRID_CELLS, RETRY_FAILED, FAIL_FAST, PUBLISHED_GRID, ENGINE_OPTIONS,
    CELLS_PER_JOB, DATA, MODELS, TRAINING, COMPUTE,
    OUT, GRID_NAME, TITLE, ACCEPT_CHANGED_CODE, CHECKPOINT_MINUTES, LOGGERS, DRY_RUN, FIGURES,
    QUIET, JSON,
)  # fmt: skip
def grid(
    ctx: typer.Context,
    preset: str | None,
    overrides: list[Override],
    axes: dict[str, tuple[Any, ...]],
    choice: "CellSelection",
    retry_failed: bool,
    fail_fast: bool,
    published: str | None,
    engine_options: EngineOptions,
    cells_per_job: int | None,
    out: Path,
    name: str | None,
    accept_changed_code: bool,
    checkpoint_minutes: float,
    loggers: ChosenLoggers,
    dry_run: bool,
    figures: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train every combination of values in lockstep, with the student alone as baseline.

    The same command again goes on, or runs what is new: other values, further seeds. Without
    arguments: 5 × 9 values of alpha and temperature on scikit-learn's digits, in minutes.
    """
    from rkkd_cli.api.requests import GridRequest

    request = GridRequest(preset, tuple(overrides), axes, choice, out, name)
    engine_options.check(several_ranks=ctx.obj is not None)
    experiment = request.planned()
    if published:
        from rkkd_cli.analysis.published import read_published
        from rkkd_cli.config.presets import published_path

        read_published(published_path(published), experiment)
    if dry_run:
        from rkkd_cli.cli.runtime.grid_dry_run import print_cells

        print_cells(request, experiment, retry_failed, as_json)
        return
    from rkkd_cli.api.engines import make_engine
    from rkkd_cli.api.execute import Executor
    from rkkd_cli.cli.output.run_result import print_result
    from rkkd_cli.cli.runtime.terminal import Terminal

    engine = make_engine(engine_options, lambda: experiment, not fail_fast, ctx.obj)
    options = RunOptions(
        checkpoint_minutes, loggers, figures, retry_failed=retry_failed, fail_fast=fail_fast,
        fit_memory=True, cells_per_job=cells_per_job, published=published,
        accept_changed_code=accept_changed_code,
    )  # fmt: skip
    executor = Executor(engine, options, Terminal(quiet), ctx.obj)
    begun = from_first(ctx.obj, lambda: request.begun)
    if begun is None:
        result = executor.begin(request.experiment(), out, request.name, or_next=False)
    else:
        result = executor.resume(begun, request)
    print_result(result, quiet, as_json)
