"""The statistics of a page: comparisons of arms, and verdicts on claims."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from rkkd_cli.analysis.compare import METRICS, Comparison
from rkkd_cli.analysis.findings import ClaimPart, Finding, judge_findings
from rkkd_cli.analysis.numbers import format_interval, format_number, format_p_value
from rkkd_cli.analysis.pairing import RunRecord, compare_runs, compare_within
from rkkd_cli.config.grid import is_baseline
from rkkd_cli.errors import UserError, printable
from rkkd_cli.report.comparison_text import comparison_notes
from rkkd_cli.report.page.sources import PageRun
from rkkd_cli.report.page.tables import PageTable
from rkkd_cli.report.run_text import TableCell

MAX_ARMS_ALL_PAIRS = 8  # of more arms, each is compared with the first baseline only
MAX_RUNS_COMPARED = 6
HEADER = (
    "difference of", "metric", "seeds", "mean", "95 % t", "95 % bootstrap", "p", "p Holm", "g",
    "seeds for 80 %", "verdict",
)  # fmt: skip


class ComparisonBlock(NamedTuple):
    """Comparisons as a table, with a legend of its columns and a sentence for each row."""

    table: PageTable
    legend: str
    sentences: Sequence[str]


def printable_findings(run: PageRun) -> list[Finding]:
    """Return the findings on a run, as printable text."""
    findings = []
    for f in judge_findings(run.experiment, run.metrics, ended_early=run.ended_early()):
        parts = [ClaimPart(printable(p.what), p.verdict, printable(p.numbers)) for p in f.parts]
        name, claim, note = map(printable, (f.name, f.claim, f.note))
        findings.append(Finding(name, claim, f.verdict, parts, note))
    return findings


def comparison_blocks(runs: Sequence[PageRun]) -> list[ComparisonBlock]:
    """Return the comparisons within each run, and between every two runs of the same images."""
    blocks = [_block(run.name, _compare_arms_of(run)) for run in runs]
    for first, second in itertools.combinations(runs, 2) if len(runs) <= MAX_RUNS_COMPARED else ():
        if _fingerprints(first) != _fingerprints(second):
            continue  # on other images their difference says nothing about the arms
        try:
            comparisons = compare_runs(first, second, METRICS)
        except UserError:  # no matching arms: the page shows their curves only
            continue
        blocks.append(_block(f"{second.name} − {first.name}", comparisons))
    return [block for block in blocks if block is not None]


def _fingerprints(run: PageRun) -> list[str]:
    return [dataset["fingerprint"] for dataset in run.manifest.datasets]


def _compare_arms_of(run: RunRecord) -> list[Comparison]:
    arms = [arm for arm in run.arms if arm in run.by_arm]
    if len(arms) <= MAX_ARMS_ALL_PAIRS:
        return compare_within(run, METRICS, list(itertools.combinations(arms, 2)))
    first = next((arm for arm in arms if is_baseline(arm)), None)
    pairs = [(first, arm) for arm in arms if not is_baseline(arm)] if first else []
    return compare_within(run, METRICS[:1], pairs)


def _block(title: str, comparisons: Sequence[Comparison]) -> ComparisonBlock | None:
    if not comparisons:
        return None
    legend, *sentences = comparison_notes(comparisons)
    caption = printable(f"{title}: differences at the last epoch")
    table = PageTable(caption, HEADER, [_row(c) for c in comparisons])
    return ComparisonBlock(table, legend, sentences)


def _row(c: Comparison) -> list[TableCell]:
    d = c.difference
    return [
        TableCell(printable(f"{c.second} − {c.first}")),
        TableCell(c.metric),
        TableCell(str(d.n) if d.paired else f"{d.n} and {d.n_second}", d.n),
        TableCell(format_number(d.mean, sign=True), d.mean),
        TableCell(format_interval(d.interval), d.interval.low if d.interval else None),
        TableCell(format_interval(d.bootstrap), d.bootstrap.low if d.bootstrap else None),
        TableCell(format_p_value(d.p), d.p),
        TableCell(format_p_value(c.p_holm), c.p_holm),
        TableCell(format_number(d.corrected, sign=True), d.corrected),
        TableCell("–" if c.seeds_needed is None else f"{c.seeds_needed:,}", c.seeds_needed),
        TableCell(c.verdict),
    ]
