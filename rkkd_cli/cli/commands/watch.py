"""``rkkd watch``: the progress of a run that another process is training."""

import json
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.cli.flags.runs import JSON_ONLY, OUT, RUN_OR_NEWEST
from rkkd_cli.errors import UserError

if TYPE_CHECKING:
    from rkkd_cli.analysis.summary import ArmProgress
    from rkkd_cli.cli.output.watching import Snapshot


@takes(
    RUN_OR_NEWEST,
    Flag("once", bool, "Show the run once, and exit.", default=False),
    Flag("every", float, "Seconds between two updates.",
         default=1.0, metavar="SECONDS", min=0.1),
    replace(JSON_ONLY, help="With --once, print one JSON object instead of text."), OUT,
)  # fmt: skip
def watch(run: str | None, once: bool, every: float, as_json: bool, out: Path) -> None:
    """Show the progress of a run until it ends, or until Ctrl-C. Its files are only read.

    If stdout is no terminal, the table is printed anew whenever it has changed.
    """
    from rkkd_cli.cli.output.watching import follow, take_snapshot
    from rkkd_cli.records.run_directory import newest_run, open_run

    opened = open_run(run, out) if run else newest_run(out)
    if as_json and not once:
        raise UserError("--json shows a run once, not until it ends; add --once")
    if once:
        snapshot = take_snapshot(opened)
        typer.echo(_as_json(snapshot)) if as_json else snapshot.print()
        return
    try:
        raise typer.Exit(follow(opened, every))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _as_json(snapshot: "Snapshot") -> str:
    """Return the state of the run as one JSON object; what is NaN or infinite is null."""
    run, manifest, status = snapshot.run, snapshot.manifest, snapshot.status
    arms, plan = snapshot.arms, snapshot.plan
    content = {
        "run": run.name,
        "directory": str(run.path),
        "status": status,
        "started": manifest.started,
        "process": manifest.process if status == "running" else None,
        "epochs_done": sum(epoch for arm in arms for epoch in arm.epochs.values()),
        "epochs_planned": sum(plan.epochs.values()) * plan.seeds,
        "arms": [_arm_as_json(arm, plan.epochs.get(arm.arm)) for arm in arms],
        "stopped": manifest.stopped,
        "reason": manifest.reason,
    }
    return json.dumps(content, allow_nan=False)


def _arm_as_json(arm: "ArmProgress", epochs: int | None) -> dict[str, Any]:
    """Return an arm with the mean of each metric over its seeds, by epoch."""
    curves = {
        metric: [value if isfinite(value) else None for value in progress.curve]
        for metric, progress in arm.metrics.items()
    }
    return {"arm": arm.arm, "epochs": epochs, "epoch_by_seed": arm.epochs, "curves": curves}
