"""``rkkd run``: train the arms of an experiment, record them, draw the figures."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rkkd_cli.api.options import ChosenLoggers, EngineOptions, RunOptions
from rkkd_cli.cli.flags.engine import ENGINE_OPTIONS
from rkkd_cli.cli.flags.experiment import COMPUTE, DATA, MODELS, OBJECTIVE, RANKING, TRAINING, WORDS
from rkkd_cli.cli.flags.flag import takes
from rkkd_cli.cli.flags.runs import (
    ACCEPT_CHANGED_CODE,
    CHECKPOINT_MINUTES,
    DRY_RUN,
    FIGURES,
    JSON,
    LOGGERS,
    PROFILE,
    QUIET,
    RESUME,
    RUN_FOLDER,
    VERBOSE,
)
from rkkd_cli.cli.runtime.torchrun import from_first
from rkkd_cli.config.overrides import Override
from rkkd_cli.errors import UserError

if TYPE_CHECKING:
    from rkkd_cli.records.run_directory import RunDirectory


@takes(
    WORDS, DATA, MODELS, TRAINING, OBJECTIVE, RANKING, COMPUTE, ENGINE_OPTIONS,
    RUN_FOLDER, RESUME, ACCEPT_CHANGED_CODE, CHECKPOINT_MINUTES, LOGGERS, DRY_RUN, VERBOSE,
    FIGURES, QUIET, PROFILE, JSON,
)  # fmt: skip
def run(
    ctx: typer.Context,
    preset: str | None,
    overrides: list[Override],
    rank_grad: str,
    engine_options: EngineOptions,
    out: Path,
    name: str | None,
    resume: str | None,
    accept_changed_code: bool,
    checkpoint_minutes: float,
    loggers: ChosenLoggers,
    dry_run: bool,
    verbose: bool,
    figures: bool,
    quiet: bool,
    profile: bool,
    as_json: bool,
) -> None:
    """Train the arms kd (ranking loss logged only) and kd_rank (backpropagated) in lockstep.

    Without arguments: scikit-learn's digits, three seeds, about a minute on a CPU.
    """
    from rkkd_cli.api import requests
    from rkkd_cli.records.run_directory import AUTO, check_free, new_name

    engine_options.check(ctx.obj is not None, profile)
    if verbose and not dry_run:
        raise UserError("--verbose says more in a --dry-run; add that, or leave it away")
    request = requests.ExperimentRequest(preset, overrides, rank_grad, resume not in (None, AUTO))
    begun = from_first(ctx.obj, lambda: _begun(resume, name, out, dry_run))
    chosen = name or new_name(requests.preset_label(preset), datetime.now().astimezone())
    experiment = None
    if begun is None:
        experiment = request.experiment()
        from_first(ctx.obj, lambda: check_free(out, chosen, or_next=name is None))
    if dry_run:
        from rkkd_cli.cli.runtime.dry_run import print_plan

        planned = request.planned(begun) if begun else experiment
        assert planned is not None
        print_plan(planned, begun.path if begun else out / chosen, as_json, verbose)
        return
    from rkkd_cli.api.engines import make_engine
    from rkkd_cli.api.execute import Executor
    from rkkd_cli.cli.output.run_result import print_result
    from rkkd_cli.cli.runtime.terminal import Terminal
    from rkkd_cli.sweep.jobs import count_jobs

    options = RunOptions(
        checkpoint_minutes, loggers, figures, accept_changed_code=accept_changed_code
    )
    terminal = Terminal(quiet, profile)
    if experiment is not None:
        few = engine_options.at_most(count_jobs(experiment))
        engine = make_engine(few, lambda: experiment, False, ctx.obj)
        executor = Executor(engine, options, terminal, ctx.obj)
        ended = executor.begin(experiment, out, chosen, or_next=name is None)
    else:
        assert begun is not None
        engine = make_engine(engine_options, lambda: request.planned(begun), False, ctx.obj)
        ended = Executor(engine, options, terminal, ctx.obj).resume(begun, request)
    print_result(ended, quiet, as_json)


def _begun(resume: str | None, name: str | None, out: Path, dry_run: bool) -> "RunDirectory | None":
    """Return the run to continue: that of --resume, or the one before a restart by torchrun."""
    from rkkd_cli.api.requests import run_before_restart, run_to_resume

    return run_to_resume(resume, name, out) or (None if dry_run else run_before_restart(out))
