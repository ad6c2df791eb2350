"""``rkkd findings``: the study's claims, and a preset's own, held against a run."""

import dataclasses
import json
from pathlib import Path

import typer

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.cli.flags.runs import JSON_ONLY, OUT, RUN, format_flag
from rkkd_cli.errors import unknown_name


@takes(
    RUN,
    Flag("arms", list[str] | None, "Check only claims about these arms; default: all arms.",
         positional=True, metavar="[ARM…]"),
    format_flag("text", "md"), JSON_ONLY, OUT,
)  # fmt: skip
def findings(run: str, arms: list[str] | None, to: str, as_json: bool, out: Path) -> None:
    """Hold the study's claims against a run: supported, contradicted or not resolved."""
    from rkkd_cli.analysis.findings import judge_findings
    from rkkd_cli.cli.output.stored_run import recorded
    from rkkd_cli.report.findings_text import findings_markdown, findings_plain

    read = recorded(run, out)
    for arm in arms or ():
        if arm not in read.arms:
            raise unknown_name("arm", arm, read.arms)
    found = judge_findings(read.experiment, read.metrics, arms or None, read.ended_early())
    if as_json:
        content = {"run": read.name, "findings": [dataclasses.asdict(one) for one in found]}
        typer.echo(json.dumps(content, allow_nan=False))
    else:
        typer.echo((findings_markdown if to == "md" else findings_plain)(found), nl=False)
