"""The statistics of a page: comparisons of arms, and verdicts on claims."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from rkkd_cli.analysis.compare import Comparison
from rkkd_cli.analysis.findings import Finding, judge_findings
from rkkd_cli.analysis.numbers import format_interval, format_number, format_p_value
from rkkd_cli.analysis.paired_curves import arm_pairs
from rkkd_cli.analysis.pairing import RunRecord, compare_runs, compare_within
from rkkd_cli.config.grid import is_baseline
from rkkd_cli.config.tasks import task_of
from rkkd_cli.errors import UserError, printable
from rkkd_cli.report.comparison_text import comparison_legend, comparison_sentences
from rkkd_cli.report.page.sources import PageRun
from rkkd_cli.report.page.tables import PageTable
from rkkd_cli.report.run_text import TableCell
from rkkd_cli.report.words import capitalised, quantity_of

MAX_ARMS_ALL_PAIRS = 8  # of more arms, each is compared with the first baseline only
MAX_RUNS_COMPARED = 6
HEADER = (
    "difference of", "metric", "seeds", "mean", "95 % t", "p Holm", "verdict", "p exact", "g",
    "seeds for 80 %",
)  # fmt: skip


class ComparisonBlock(NamedTuple):
    """Comparisons as a table, a legend of its columns, and sentences on the main metric."""

    table: PageTable
    legend: str
    sentences: Sequence[str]


def printable_findings(run: PageRun) -> list[Finding]:
    """Return the findings on a run, as printable text."""
    findings = []
    for f in judge_findings(
        run.experiment,
        run.metrics,
        ended_early=run.ended_early(),
        teachers=run.manifest.teachers,
    ):
        parts = [
            replace(part, what=printable(part.what), numbers=printable(part.numbers))
            for part in f.parts
        ]
        name, claim, note = map(printable, (f.name.replace("_", " "), f.claim, f.note))
        findings.append(replace(f, name=capitalised(name), claim=claim, parts=parts, note=note))
    return findings


def comparison_blocks(
    runs: Sequence[PageRun], within: Sequence[Sequence[Comparison]]
) -> list[ComparisonBlock]:
    """Return the comparisons ``within`` each run, and between every two runs of the same images."""
    blocks = [_block(run.name, of_run) for run, of_run in zip(runs, within, strict=True)]
    for first, second in itertools.combinations(runs, 2) if len(runs) <= MAX_RUNS_COMPARED else ():
        if _fingerprints(first) != _fingerprints(second):
            continue  # on other images their difference says nothing about the arms
        try:
            comparisons = compare_runs(
                first, second, first.experiment.task_records.compared_columns
            )
        except UserError:  # no matching arms: the page shows their curves only
            continue
        blocks.append(_block(f"{second.name} − {first.name}", comparisons))
    return [block for block in blocks if block is not None]


def _fingerprints(run: PageRun) -> list[str]:
    return [dataset["fingerprint"] for dataset in run.manifest.datasets]


def compare_arms_of(run: RunRecord) -> list[Comparison]:
    """Return the comparisons of all pairs of arms; of many arms, those that matter most."""
    arms = [arm for arm in run.arms if arm in run.by_arm]
    pairs, metrics = arm_pairs(run), run.experiment.task_records.compared_columns
    if len(arms) <= MAX_ARMS_ALL_PAIRS:
        others = itertools.combinations(arms, 2)
        pairs += [pair for pair in others if pair not in pairs and pair[::-1] not in pairs]
        return compare_within(run, metrics, pairs)
    first = next((arm for arm in arms if is_baseline(arm)), None)
    if not pairs and first:
        pairs = [(first, arm) for arm in arms if not is_baseline(arm)]
    return compare_within(run, metrics[:1], pairs)


def _block(title: str, comparisons: Sequence[Comparison]) -> ComparisonBlock | None:
    if not comparisons:
        return None
    caption = printable(f"{title}: differences at the last epoch")
    table = PageTable(caption, HEADER, [_row(c) for c in comparisons])
    main = task_of(c.metric for c in comparisons).main_column
    sentences = comparison_sentences(comparisons, [main])
    return ComparisonBlock(table, comparison_legend(comparisons, ("n", *HEADER)), sentences)


def _row(c: Comparison) -> list[TableCell]:
    d = c.difference
    return [
        TableCell(printable(f"{c.second} − {c.first}")),
        TableCell(quantity_of(c.metric).label),
        TableCell(str(d.n) if d.paired else f"{d.n} and {d.n_second}", d.n),
        TableCell(format_number(d.mean, sign=True), d.mean),
        TableCell(format_interval(d.interval), d.interval.low if d.interval else None),
        TableCell(format_p_value(c.p_holm), c.p_holm),
        TableCell(c.verdict),
        TableCell(format_p_value(d.permutation_p), d.permutation_p),
        TableCell(format_number(d.corrected, sign=True), d.corrected),
        TableCell("–" if c.seeds_needed is None else f"{c.seeds_needed:,}", c.seeds_needed),
    ]
