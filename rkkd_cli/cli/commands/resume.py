"""``rkkd resume``: go on with a run that was interrupted."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rkkd_cli.cli.flags import common as flags
from rkkd_cli.cli.flags.keys import FLAG_KEYS
from rkkd_cli.errors import UserError

if TYPE_CHECKING:
    from rkkd_cli.cli.flags.overrides import Request
    from rkkd_cli.config.experiment import Experiment
    from rkkd_cli.records.run_directory import RunDirectory


def resume(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name or folder of a run.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Overrides, as long as they change no number.",
            show_default=False,
        ),
    ] = None,
    epochs: flags.Epochs = None,
    device: flags.Device = None,
    checkpoint_minutes: flags.CheckpointMinutes = flags.DEFAULT_CHECKPOINT_MINUTES,
    out: flags.Results = flags.DEFAULT_RESULTS,
    tensorboard: flags.TensorBoard = False,
    wandb: flags.Wandb = False,
    mlflow: flags.MLflow = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Go on with an interrupted run: its metrics.csv ends as if nothing had happened.

    More --epochs than it began with are possible where the schedule does not depend on them.
    """
    from rkkd_cli.cli.flags.overrides import flag_overrides, requested_by, split_words
    from rkkd_cli.cli.logging_to import chosen_loggers
    from rkkd_cli.records.run_directory import open_run

    loggers = chosen_loggers(tensorboard, wandb, mlflow)
    preset, overrides = split_words(words)
    if preset is not None:
        raise UserError(f"{preset!r} is no KEY=VALUE; a run is resumed as it was begun")
    overrides += flag_overrides(ctx.params, FLAG_KEYS)
    begun = open_run(run, out)
    from rkkd_cli.cli.output.run_result import say_result
    from rkkd_cli.cli.runtime.execute import Manner, go_on

    request = requested_by(None, overrides, "both", from_record=True)
    manner = Manner(checkpoint_minutes, quiet, loggers=loggers).on(ctx.obj)
    say_result(go_on(begun, request, manner), quiet, as_json)


def begun_run(resume: str | None, name: str | None, out: Path) -> "RunDirectory | None":
    """Return the run that ``--resume`` means; None for a new one. Raises UserError."""
    from rkkd_cli.records.run_directory import (
        AUTO,
        RunDirectory,
        check_name,
        is_run,
        never_began,
        open_run,
    )

    if resume is None:
        return None
    if resume != AUTO:
        run = open_run(resume, out)
        if name not in (None, run.name):
            raise UserError(f"--name {name}: the run to resume is {run.name}; leave --name away")
        return run
    if name is None:
        raise UserError("--resume auto needs --name, the run to begin or to go on with")
    check_name(name)
    path = out / name
    if not path.exists() or never_began(path):
        return None
    if not is_run(path):
        raise UserError(f"{path} is no run; choose another --name, or move it away")
    return RunDirectory(path)


def begun_before_restart(out: Path) -> "RunDirectory | None":
    """Return the run that this torchrun began before it started its processes again, if any."""
    from rkkd_cli.records.run_directory import find_runs

    nodes, restarts = (
        os.environ.get(name, default)
        for name, default in (("GROUP_WORLD_SIZE", "1"), ("TORCHELASTIC_RESTART_COUNT", "0"))
    )
    if nodes == "1" and restarts == "0":  # nodes count their restarts apart
        return None
    from rkkd_cli.train.distributed.torchrun import launch

    own = launch()
    runs = [run for run in find_runs(out) if own and run.launch() == own]
    return runs[-1] if runs else None


def planned(begun: "RunDirectory | None", request: "Request") -> "Experiment":
    """Return the experiment that would be run, as far as experiment.toml can tell."""
    from rkkd_cli.config.compatibility import continued
    from rkkd_cli.config.presets import read_experiment

    if begun is None:
        return request(None)
    recorded = read_experiment(begun.experiment)
    return continued(recorded, request(recorded), begun.name)
