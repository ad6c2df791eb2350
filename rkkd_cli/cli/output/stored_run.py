"""A run read back for the commands that judge it."""

from pathlib import Path

from rkkd_cli.analysis.pairing import Recorded
from rkkd_cli.config.presets import read_experiment
from rkkd_cli.errors import UserError
from rkkd_cli.records.run_directory import open_run


def recorded(run: str, out: Path) -> Recorded:
    """Return experiment, manifest and rows of a run. Raises UserError; one without rows is none."""
    opened = open_run(run, out)
    manifest = opened.read_manifest()
    metrics = opened.read_metrics(manifest)
    if metrics.empty:
        raise UserError(f"run {opened.path} has no finished epoch")
    return Recorded(opened.handle, read_experiment(opened.experiment), manifest, metrics)
