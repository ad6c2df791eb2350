"""Findings as text: each claim with its verdict, then its parts with their numbers."""

from collections.abc import Sequence

from rkkd_cli.analysis.findings import Finding
from rkkd_cli.errors import printable

LEGEND = (
    "95 % intervals: t over seeds. A claim is supported if all its parts are, contradicted if any "
    "is, else not resolved."
)


def findings_plain(findings: Sequence[Finding]) -> str:
    """Return the findings as text for a terminal."""
    blocks = []
    for finding in findings:
        lines = [f"{finding.name}: {finding.verdict.upper()}", f"  {finding.claim}"]
        lines += [f"  - {part.what}: {part.verdict}; {part.numbers}" for part in finding.parts]
        lines += [f"  note: {finding.note}"] if finding.note else []
        blocks.append("\n".join(printable(line) for line in lines))
    return "\n\n".join([*blocks, LEGEND]) + "\n"


def findings_markdown(findings: Sequence[Finding]) -> str:
    """Return the findings in Markdown: a section per claim, with a table of its parts."""
    blocks = []
    for finding in findings:
        block = f"### {_escape(finding.name)}: {finding.verdict}\n\n{_escape(finding.claim)}"
        if finding.parts:
            block += "\n\n| part | verdict | numbers |\n| --- | --- | --- |\n" + "\n".join(
                f"| {_escape(part.what)} | {part.verdict} | {_escape(part.numbers)} |"
                for part in finding.parts
            )
        blocks.append(block + (f"\n\nNote: {_escape(finding.note)}." if finding.note else ""))
    return "\n\n".join([*blocks, LEGEND]) + "\n"


MARKDOWN_ESCAPES = str.maketrans({character: f"\\{character}" for character in "\\|*_`<>[]#"})


def _escape(text: str) -> str:
    return printable(text).translate(MARKDOWN_ESCAPES)
