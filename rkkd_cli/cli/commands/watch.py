"""``rkkd watch``: curves and table of a run that another process is training."""

from pathlib import Path

import typer

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.cli.flags.runs import OUT, RUN_OR_NEWEST


@takes(
    RUN_OR_NEWEST,
    Flag("once", bool, "Show the run as it stands now, and end.", default=False),
    Flag("every", float, "Seconds from one look at the run to the next.",
         default=1.0, metavar="SECONDS", min=0.1),
    OUT,
)  # fmt: skip
def watch(run: str | None, once: bool, every: float, out: Path) -> None:
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
