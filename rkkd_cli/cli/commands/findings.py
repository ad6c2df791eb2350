"""``rkkd findings``: the study's claims, and a preset's own, held against a run."""

import dataclasses
import json
from typing import Annotated

import typer

from rkkd_cli.cli.flags import common as flags
from rkkd_cli.errors import unknown_name

FORMATS = ("text", "md")


def findings(
    run: flags.Run,
    arms: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARM…]", help="Only of these arms.", show_default=False),
    ] = None,
    to: Annotated[
        str, typer.Option("--format", metavar="|".join(FORMATS), help="As what.")
    ] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: flags.Results = flags.DEFAULT_RESULTS,
) -> None:
    """Hold the study's claims against a run: supported, contradicted or not resolved."""
    from rkkd_cli.analysis.findings import findings_of
    from rkkd_cli.cli.output.stored_run import recorded
    from rkkd_cli.report.findings_text import findings_markdown, findings_plain

    if to not in FORMATS:
        raise unknown_name("format", to, FORMATS)
    read = recorded(run, out)
    for arm in arms or ():
        if arm not in read.arms:
            raise unknown_name("arm", arm, read.arms)
    found = findings_of(read.experiment, read.metrics, arms or None, read.ended_early())
    if as_json:
        content = {"run": read.name, "findings": [dataclasses.asdict(one) for one in found]}
        typer.echo(json.dumps(content, allow_nan=False))
    else:
        typer.echo((findings_markdown if to == "md" else findings_plain)(found), nl=False)
