"""Runs read back for the commands that judge them, and the published values beside them."""

from collections.abc import Sequence
from pathlib import Path

from rkkd_cli.analysis.pairing import RecordedRun
from rkkd_cli.config.presets import published_preset, read_experiment
from rkkd_cli.errors import UserError
from rkkd_cli.records.run_directory import RunDirectory, open_run

AUTO = "auto"


def recorded(run: str, out: Path) -> RecordedRun:
    """Return experiment, manifest and rows of a run. Raises UserError; one without rows is none."""
    opened = open_run(run, out)
    manifest = opened.read_manifest()
    metrics = opened.read_metrics(manifest)
    if metrics.empty:
        raise UserError(f"run {opened.path} has no finished epoch")
    return RecordedRun(opened.handle, read_experiment(opened.experiment), manifest, metrics)


def chosen(published: str, runs: Sequence[RunDirectory]) -> str:
    """Return the file or preset that ``--published`` means. Raises UserError where there is none.

    ``auto`` is the preset of the runs, if that carries published values.
    """
    if published != AUTO:
        return published
    found = found_for(runs)
    if found is None:
        names = " and ".join(run.name for run in runs)
        raise UserError(f"no preset with published values has the title of {names}; name one")
    return found


def found_for(runs: Sequence[RunDirectory]) -> str | None:
    """Return the one preset with published values whose title all the runs have, or None."""
    presets = {published_preset(read_experiment(run.experiment)) for run in runs}
    return presets.pop() if len(presets) == 1 else None
