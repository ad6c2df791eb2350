"""``rkkd watch``: the progress of a run that another process is training."""

from pathlib import Path

import typer

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.cli.flags.runs import OUT, RUN_OR_NEWEST


@takes(
    RUN_OR_NEWEST,
    Flag("once", bool, "Show the run once, and exit.", default=False),
    Flag("every", float, "Seconds between two updates.",
         default=1.0, metavar="SECONDS", min=0.1),
    OUT,
)  # fmt: skip
def watch(run: str | None, once: bool, every: float, out: Path) -> None:
    """Show the progress of a run until it ends, or until Ctrl-C. Its files are only read.

    If stdout is no terminal, the table is printed anew whenever it has changed.
    """
    from rkkd_cli.cli.output.watching import follow, take_snapshot
    from rkkd_cli.records.run_directory import newest_run, open_run

    opened = open_run(run, out) if run else newest_run(out)
    if once:
        take_snapshot(opened).print()
        return
    try:
        raise typer.Exit(follow(opened, every))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
