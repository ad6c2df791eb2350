"""Findings as text: each claim with its verdict, then its parts with their numbers."""

from collections.abc import Sequence

from rkkd_cli.analysis.findings import Finding
from rkkd_cli.analysis.numbers import format_p_value
from rkkd_cli.errors import printable

LEGEND = (
    "A part is so (yes), is not (no) or is open by its own 95 % t interval over seeds. A claim is "
    "supported if all its parts are so, contradicted if one is not, and not resolved unless its p "
    "is below 0.05 after Holm's correction for all claims judged here."
)


def verdict_text(finding: Finding) -> str:
    """Return the verdict, with p where there is one."""
    if finding.p is None:
        return finding.verdict
    p = format_p_value(finding.p)
    return f"{finding.verdict} (p {p if p.startswith('<') else f'= {p}'})"


def findings_plain(findings: Sequence[Finding]) -> str:
    """Return the findings as text for a terminal."""
    blocks = []
    for finding in findings:
        verdict = verdict_text(finding).replace(finding.verdict, finding.verdict.upper())
        lines = [f"{finding.name}: {verdict}", f"  {finding.claim}"]
        lines += [f"  - {part.what}: {part.answer}; {part.numbers}" for part in finding.parts]
        lines += [f"  note: {finding.note}"] if finding.note else []
        blocks.append("\n".join(printable(line) for line in lines))
    return "\n\n".join([*blocks, LEGEND]) + "\n"


def findings_markdown(findings: Sequence[Finding]) -> str:
    """Return the findings in Markdown: a section per claim, with a table of its parts."""
    blocks = []
    for finding in findings:
        verdict = _escape(verdict_text(finding))
        block = f"### {_escape(finding.name)}: {verdict}\n\n{_escape(finding.claim)}"
        if finding.parts:
            block += "\n\n| part | is so | numbers |\n| --- | --- | --- |\n" + "\n".join(
                f"| {_escape(part.what)} | {part.answer} | {_escape(part.numbers)} |"
                for part in finding.parts
            )
        blocks.append(block + (f"\n\nNote: {_escape(finding.note)}." if finding.note else ""))
    return "\n\n".join([*blocks, LEGEND]) + "\n"


MARKDOWN_ESCAPES = str.maketrans({character: f"\\{character}" for character in "\\|*_`<>[]#"})


def _escape(text: str) -> str:
    return printable(text).translate(MARKDOWN_ESCAPES)
