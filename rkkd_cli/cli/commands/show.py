"""``rkkd show``: the summary of a run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rkkd_cli.cli.flags.flag import takes
from rkkd_cli.cli.flags.runs import JSON_ONLY, OUT, PUBLISHED, RUN_OR_NEWEST

if TYPE_CHECKING:
    from rkkd_cli.records.run_directory import RunDirectory


@takes(
    RUN_OR_NEWEST,
    replace(PUBLISHED, metavar="FILE|PRESET",
            help="Published accuracies to compare with: a CSV file by arm, or a preset that has "
                 "some."),
    JSON_ONLY, OUT,
)  # fmt: skip
def show(run: str | None, published: str | None, as_json: bool, out: Path) -> None:
    """Show a run: its status, dataset and teacher, and the metrics of each arm."""
    from rkkd_cli.analysis.summary import summarise_run
    from rkkd_cli.cli.output import tables
    from rkkd_cli.cli.output.console import out as stdout
    from rkkd_cli.cli.output.console import print_line
    from rkkd_cli.cli.output.watching import RESUME_ADVICE
    from rkkd_cli.records.run_directory import newest_run, open_run
    from rkkd_cli.report.run_text import dataset_text, teacher_text

    opened = open_run(run, out) if run else newest_run(out)
    manifest = opened.read_manifest()
    status = opened.status(manifest)
    summaries = summarise_run(opened.read_metrics(manifest), manifest)
    arms = [arm.arm for arm in summaries.last]
    accuracies = _read_published(opened, published, arms) if published else None
    if as_json:
        content = manifest.model_dump(mode="json") | {"status": status}
        typer.echo(json.dumps(content | summaries.as_json(accuracies)))
        return
    advice = RESUME_ADVICE.get(status, "").format(opened.handle)
    headline = f"{opened.path}: {status}, started {manifest.started}"
    lines = [f"{headline}; {advice}" if advice else headline]
    lines += [f"failed: {manifest.reason}"] if manifest.reason else []
    lines += [f"dataset {dataset_text(facts)}" for facts in manifest.datasets]
    lines += [f"teacher {teacher_text(facts)}" for facts in manifest.teachers]
    lines += [f"stopped: {sentence}" for sentence in manifest.stopped]
    lines += tables.early_lines(manifest)
    for line in lines:
        print_line(stdout, line)
    tables.print_summary(summaries, manifest.students, accuracies)


def _read_published(run: "RunDirectory", published: str, arms: list[str]) -> dict[str, float]:
    from rkkd_cli.analysis.published import read_published_arms
    from rkkd_cli.config.presets import published_path, read_experiment

    student = read_experiment(run.experiment).student.model
    return read_published_arms(published_path(published), student, arms)
