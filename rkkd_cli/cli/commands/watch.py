"""``rkkd watch``: curves and table of a run that another process is training."""

from typing import Annotated

import typer

from rkkd_cli.cli.flags import common as flags


def watch(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="Name or folder of a run; default: the newest.", show_default=False
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Show how it stands now, and end.")] = False,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How often to look.")
    ] = 1.0,
    out: flags.Results = flags.DEFAULT_RESULTS,
) -> None:
    """Watch a run until it ends, or until Ctrl-C; its files are only read.

    Elsewhere than on a terminal, what has changed is printed again below.
    """
    from rkkd_cli.cli.output.watching import follow, look
    from rkkd_cli.records.run_directory import newest_run, open_run

    opened = open_run(run, out) if run else newest_run(out)
    if once:
        look(opened).print()
        return
    try:
        raise typer.Exit(follow(opened, every))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
