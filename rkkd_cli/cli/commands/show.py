"""``rkkd show``: a run's summary table."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rkkd_cli.cli.flags.flag import takes
from rkkd_cli.cli.flags.runs import JSON_ONLY, OUT, PUBLISHED, RUN_OR_NEWEST
from rkkd_cli.errors import printable

if TYPE_CHECKING:
    from rkkd_cli.records.run_directory import RunDirectory

RESUMABLE = ("dead", "failed", "interrupted")


@takes(
    RUN_OR_NEWEST,
    replace(PUBLISHED, metavar="FILE|PRESET",
            help="A CSV file of published accuracies by arm, or a preset that carries some."),
    JSON_ONLY, OUT,
)  # fmt: skip
def show(run: str | None, published: str | None, as_json: bool, out: Path) -> None:
    """Show a run: status, dataset, teacher, and each arm at its last epoch."""
    from rkkd_cli.cli.output import console, tables
    from rkkd_cli.records.run_directory import newest_run, open_run

    opened = open_run(run, out) if run else newest_run(out)
    manifest = opened.read_manifest()
    status = opened.status(manifest)
    summaries = tables.summaries_of(opened.read_metrics(manifest), manifest)
    stated = _stated(opened, published) if published else None
    if as_json:
        content = manifest.model_dump(mode="json") | {"status": status}
        typer.echo(json.dumps(content | summaries.as_json(stated)))
        return
    hint = f"; `rkkd resume {opened.handle}` goes on" if status in RESUMABLE else ""
    lines = [f"{opened.path}: {status}, started {manifest.started}{hint}"]
    lines += [tables.dataset_line(facts) for facts in manifest.datasets]
    lines += [tables.teacher_line(facts) for facts in manifest.teachers]
    lines += [f"stopped: {sentence}" for sentence in manifest.stopped]
    lines += tables.early_lines(manifest)
    for line in lines:
        console.out.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    tables.print_summary(console.out, summaries, manifest.students, stated)


def _stated(run: "RunDirectory", published: str) -> dict[str, float]:
    from rkkd_cli.analysis.published import read_published_arms
    from rkkd_cli.config.presets import published_path, read_experiment

    student = read_experiment(run.experiment).student.model
    return read_published_arms(published_path(published), student)
