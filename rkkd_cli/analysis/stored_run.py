"""Read a recorded run and the published values that belong to it, for what judges it."""

from collections.abc import Sequence
from pathlib import Path

from rkkd_cli.analysis.pairing import RunRecord
from rkkd_cli.config.presets import published_preset, read_experiment
from rkkd_cli.errors import UserError
from rkkd_cli.records.run_directory import RunDirectory, open_run

PUBLISHED_AUTO = "auto"


def read_recorded_run(run: str, out: Path) -> RunRecord:
    """Return a run's experiment, manifest and rows. Raises UserError, also if it has no rows."""
    directory = open_run(run, out)
    return record_of(directory, directory.handle)


def record_of(directory: RunDirectory, name: str) -> RunRecord:
    """Return the record of an opened run under a name. Raises UserError if it has no rows."""
    manifest = directory.read_manifest()
    metrics = directory.read_metrics(manifest)
    if metrics.empty:
        raise UserError(f"run {directory.path} has no finished epoch")
    experiment = read_experiment(directory.experiment)
    return RunRecord(name, experiment, manifest, metrics, directory.status(manifest))


def resolve_published(published: str, runs: Sequence[RunDirectory]) -> str:
    """Return the file or preset that ``--published`` names.

    ``auto`` names the preset of the runs. Raises UserError if that has no published values.
    """
    if published != PUBLISHED_AUTO:
        return published
    preset = published_preset_of(runs)
    if preset is None:
        names = " and ".join(run.name for run in runs)
        raise UserError(f"no preset with published values has the title of {names}; name one")
    return preset


def published_preset_of(runs: Sequence[RunDirectory]) -> str | None:
    """Return the preset with published values whose title all the runs have, or None."""
    presets = {published_preset(read_experiment(run.experiment)) for run in runs}
    return presets.pop() if len(presets) == 1 else None
