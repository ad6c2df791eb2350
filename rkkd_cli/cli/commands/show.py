"""``rkkd show``: the summary of a run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rkkd_cli.cli.flags.flag import takes
from rkkd_cli.cli.flags.runs import JSON_ONLY, OUT, PUBLISHED, RUN_OR_NEWEST
from rkkd_cli.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

    from rkkd_cli.analysis.published import ComparedAccuracy
    from rkkd_cli.config.experiment import Experiment
    from rkkd_cli.records.manifest import Manifest
    from rkkd_cli.records.run_directory import RunDirectory


@takes(
    RUN_OR_NEWEST,
    PUBLISHED, JSON_ONLY, OUT,
)  # fmt: skip
def show(run: str | None, published: str | None, as_json: bool, out: Path) -> None:
    """Show a run: its status, setting and objectives, and the metrics of each arm."""
    from rkkd_cli.analysis.summary import summarise_run
    from rkkd_cli.cli.output import tables
    from rkkd_cli.cli.output.console import out as stdout
    from rkkd_cli.cli.output.console import print_folded
    from rkkd_cli.records.run_directory import newest_run, open_run
    from rkkd_cli.report.run_text import RESUME_ADVICE, published_json
    from rkkd_cli.report.setting_text import setting_lines

    opened = open_run(run, out) if run else newest_run(out)
    manifest = opened.read_manifest()
    status, metrics = opened.status(manifest), opened.read_metrics(manifest)
    experiment, unfinished = _read_setting(opened, manifest, metrics)
    summaries = summarise_run(metrics, manifest)
    compared = _read_published(opened, published, manifest, metrics) if published else None
    title = experiment.title if experiment else None
    if as_json:
        content = manifest.model_dump(mode="json") | {"status": status}
        content |= {"title": title, "unfinished": unfinished}
        content |= summaries.as_json()
        if compared is not None:
            for arm in content["summary"]:
                arm |= published_json(compared.get(arm["arm"]))
        typer.echo(json.dumps(content))
        return
    advice = RESUME_ADVICE.get(status, "").format(opened.handle)
    headline = f"{opened.path}: {status}, started {manifest.started}"
    lines = [f"{headline}; {advice}" if advice else headline]
    lines += [text for text in (unfinished, title) if text]
    lines += [f"failed: {manifest.reason}"] if manifest.reason else []
    lines += setting_lines(experiment, manifest)
    lines += [f"stopped: {sentence}" for sentence in manifest.stopped]
    lines += [f"warning: {sentence}" for sentence in manifest.warnings]
    lines += [f"note: {sentence}" for sentence in manifest.notes]
    lines += tables.early_lines(manifest)
    for line in lines:
        print_folded(stdout, line)
    tables.print_summary(summaries, manifest.students, compared)


def _read_setting(
    run: "RunDirectory", manifest: "Manifest", metrics: "DataFrame"
) -> "tuple[Experiment | None, str | None]":
    """Return a run's experiment, and its banner if seeds are missing; no damage is an error."""
    from rkkd_cli.analysis.record import RunRecord
    from rkkd_cli.config.presets import read_experiment
    from rkkd_cli.report.run_text import unfinished_text

    try:
        experiment = read_experiment(run.experiment)
    except UserError:
        return None, None
    record = RunRecord(run.name, experiment, manifest, metrics, run.status(manifest))
    return experiment, unfinished_text(record)


def _read_published(
    run: "RunDirectory", published: str, manifest: "Manifest", metrics: "DataFrame"
) -> "dict[str, ComparedAccuracy]":
    from rkkd_cli.analysis.published import read_published
    from rkkd_cli.analysis.stored_run import resolve_published
    from rkkd_cli.config.presets import published_path, read_experiment

    path = published_path(resolve_published(published, [run]))
    stated = read_published(path, read_experiment(run.experiment))
    return stated.beside(metrics, manifest.cells_ended_early)
