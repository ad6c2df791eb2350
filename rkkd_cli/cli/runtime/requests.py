"""Which run has begun already: that of ``--resume``, or of torchrun before it started again."""

import os
from pathlib import Path

from rkkd_cli.cli.flags.overrides import Request
from rkkd_cli.config.compatibility import continued
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import read_experiment
from rkkd_cli.errors import UserError
from rkkd_cli.records.run_directory import (
    AUTO,
    RunDirectory,
    check_name,
    find_runs,
    is_run,
    never_began,
    open_run,
)


def begun_run(resume: str | None, name: str | None, out: Path) -> RunDirectory | None:
    """Return the run that ``--resume`` means; None for a new one. Raises UserError."""
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


def begun_before_restart(out: Path) -> RunDirectory | None:
    """Return the run that this torchrun began before it started its processes again, if any."""
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


def planned(begun: RunDirectory | None, request: Request) -> Experiment:
    """Return the experiment that would be run, as far as experiment.toml can tell."""
    if begun is None:
        return request(None)
    recorded = read_experiment(begun.experiment)
    return continued(recorded, request(recorded), begun.name)
