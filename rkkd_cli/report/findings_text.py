"""Findings as text: a claim with its verdict, below it the parts with their numbers."""

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
    for one in findings:
        lines = [f"{one.name}: {one.verdict.upper()}", f"  {one.claim}"]
        lines += [f"  - {part.what}: {part.verdict}; {part.numbers}" for part in one.parts]
        lines += [f"  note: {one.note}"] if one.note else []
        blocks.append("\n".join(printable(line) for line in lines))
    return "\n\n".join([*blocks, LEGEND]) + "\n"


def findings_markdown(findings: Sequence[Finding]) -> str:
    """Return the findings in Markdown: a section a claim, a table of its parts."""
    blocks = []
    for one in findings:
        block = f"### {_cell(one.name)}: {one.verdict}\n\n{_cell(one.claim)}"
        if one.parts:
            rows = [f"| {_cell(p.what)} | {p.verdict} | {_cell(p.numbers)} |" for p in one.parts]
            block += "\n\n| part | verdict | numbers |\n| --- | --- | --- |\n" + "\n".join(rows)
        blocks.append(block + (f"\n\nNote: {_cell(one.note)}." if one.note else ""))
    return "\n\n".join([*blocks, LEGEND]) + "\n"


MARKUP = str.maketrans({one: f"\\{one}" for one in "\\|*_`<>[]#"})


def _cell(text: str) -> str:
    return printable(text).translate(MARKUP)
