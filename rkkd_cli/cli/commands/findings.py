"""``rkkd findings``: the claims of the study and of a preset, checked on a run."""

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
    """Check the study's claims on a run: supported, contradicted, not resolved or not judged."""
    from rkkd_cli.analysis.findings import judge_findings
    from rkkd_cli.analysis.stored_run import read_recorded_run
    from rkkd_cli.cli.output.console import folded, print_text
    from rkkd_cli.report.findings_text import findings_markdown, findings_plain
    from rkkd_cli.report.run_text import unfinished_text

    record = read_recorded_run(run, out)
    unfinished = unfinished_text(record)
    for arm in arms or ():
        if arm not in record.arms:
            raise unknown_name("arm", arm, record.arms)
    ended_early, teachers = record.ended_early(), record.manifest.teachers
    judged = judge_findings(record.experiment, record.metrics, arms or None, ended_early, teachers)
    if as_json:
        findings_json = [dataclasses.asdict(finding) for finding in judged]
        content = {"run": record.name, "unfinished": unfinished, "findings": findings_json}
        typer.echo(json.dumps(content, allow_nan=False))
    else:
        text = findings_markdown(judged) if to == "md" else folded(findings_plain(judged))
        print_text(f"{unfinished}\n\n{text}" if unfinished else text)
