"""``rkkd resume``: go on with a run that was interrupted."""

from typing import Annotated

import typer

from rkkd_cli.cli.flags import common as flags
from rkkd_cli.cli.flags.keys import FLAG_KEYS
from rkkd_cli.errors import UserError


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
    from rkkd_cli.cli.flags.overrides import (
        chosen_loggers,
        flag_overrides,
        requested_by,
        split_words,
    )
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
