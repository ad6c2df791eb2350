"""``rkkd show``: a run's summary table."""

import json
from typing import Annotated

import typer

from rkkd_cli.cli import flags


def show(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="Name or folder of a run; default: the newest.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: flags.Results = flags.DEFAULT_RESULTS,
) -> None:
    """Show a run: status, dataset, teacher, and each arm at its last epoch."""
    from rkkd_cli.analysis.summary import summarise
    from rkkd_cli.cli import console, tables
    from rkkd_cli.records.metrics import read_metrics
    from rkkd_cli.records.run_directory import newest_run, open_run

    opened = open_run(run, out) if run else newest_run(out)
    manifest = opened.read_manifest()
    summaries = summarise(read_metrics(opened.metrics))
    if as_json:
        content = manifest | {"summary": tables.summary_json(summaries)}
        typer.echo(json.dumps(content))
        return
    lines = [f"{opened.path}: {manifest.get('status')}, started {manifest.get('started')}"]
    lines += [tables.dataset_line(facts) for facts in manifest.get("datasets", [])]
    lines += [tables.teacher_line(facts) for facts in manifest.get("teachers", [])]
    lines += [f"stopped: {sentence}" for sentence in manifest.get("stopped", [])]
    for line in lines:
        console.out.print(line, markup=False, highlight=False, soft_wrap=True)
    console.out.print("Last epoch, mean ± sample standard deviation over n seeds:")
    console.out.print(tables.summary_table(summaries))
