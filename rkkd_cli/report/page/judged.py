"""What a page says of how sure its numbers are: comparisons of arms, and verdicts on claims."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from rkkd_cli.analysis.compare import METRICS, Comparison, compare_arms
from rkkd_cli.analysis.findings import Finding, judge_findings
from rkkd_cli.analysis.numbers import format_number, format_interval, format_p_value
from rkkd_cli.analysis.pairing import RecordedRun, compare_runs, why_unpaired_within, add_caveats
from rkkd_cli.config.grid import is_baseline
from rkkd_cli.errors import UserError, printable
from rkkd_cli.report.comparison_text import comparison_notes
from rkkd_cli.report.page.sources import PageRun
from rkkd_cli.report.page.tables import Cell, Table

MOST_ARMS = 8  # of which all pairs are compared; of more, each with the first baseline
MOST_RUNS = 6
HEADER = (
    "difference of", "metric", "seeds", "mean", "95 % t", "95 % bootstrap", "p", "p Holm", "g",
    "seeds for 80 %", "verdict",
)  # fmt: skip


class ComparisonBlock(NamedTuple):
    """Comparisons as a table, below it what the columns are, and a sentence for each row."""

    table: Table
    legend: str
    sentences: Sequence[str]


def recorded(run: PageRun) -> RecordedRun:
    """Return the run as analysis takes it."""
    return RecordedRun(run.name, run.experiment, run.manifest, run.metrics)


def findings_in(run: PageRun) -> list[Finding]:
    """Return the claims held against a run, with nothing in them that is not printable."""
    return [
        Finding(
            printable(one.name),
            printable(one.claim),
            one.verdict,
            [
                part.__class__(printable(part.what), part.verdict, printable(part.numbers))
                for part in one.parts
            ],
            printable(one.note),
        )
        for one in judge_findings(run.experiment, run.metrics, ended_early=recorded(run).ended_early())
    ]


def comparison_blocks(runs: Sequence[PageRun]) -> list[ComparisonBlock]:
    """Return the comparisons within each run, and between each two of a few runs."""
    found = [(run.name, _within(recorded(run))) for run in runs]
    for one, other in itertools.combinations(runs, 2) if len(runs) <= MOST_RUNS else ():
        if not _of_the_same_images(one, other):
            continue  # their levels say nothing about arms
        try:
            across = compare_runs(recorded(one), recorded(other), METRICS)
        except UserError:  # no arms that belong together: the curves stand side by side
            continue
        found.append((f"{other.name} − {one.name}", across))
    return [_judged(title, comparisons) for title, comparisons in found if comparisons]


def _of_the_same_images(one: PageRun, other: PageRun) -> bool:
    before, after = (
        [facts["fingerprint"] for facts in run.manifest.datasets] for run in (one, other)
    )
    return before == after


def _within(run: RecordedRun) -> list[Comparison]:
    known = [arm for arm in run.arms if arm in run.by_arm]
    names: tuple[str, ...] = METRICS
    pairs = list(itertools.combinations(known, 2))
    if len(known) > MOST_ARMS:
        first = next((arm for arm in known if is_baseline(arm)), None)
        pairs = [(first, arm) for arm in known if not is_baseline(arm)] if first else []
        names = METRICS[:1]
    if not pairs:
        return []
    reasons = why_unpaired_within({arm: run.by_arm[arm] for arm in itertools.chain(*pairs)})
    return add_caveats(
        compare_arms(
            run.metrics,
            names,
            pairs=pairs,
            why_unpaired=reasons,
            ended_early=run.ended_early(),
        ),
        run.by_arm,
    )


def _judged(title: str, comparisons: Sequence[Comparison]) -> ComparisonBlock:
    legend, *sentences = comparison_notes(comparisons)
    caption = printable(f"{title}: differences at the last epoch")
    return ComparisonBlock(Table(caption, HEADER, [_row(one) for one in comparisons]), legend, sentences)


def _row(c: Comparison) -> list[Cell]:
    d = c.difference
    n = str(d.n) if d.paired else f"{d.n} and {d.n_second}"
    return [
        Cell(printable(f"{c.other} − {c.one}")),
        Cell(c.metric),
        Cell(n, d.n),
        Cell(format_number(d.mean, sign=True), d.mean),
        Cell(format_interval(d.interval), d.interval.low if d.interval else None),
        Cell(format_interval(d.bootstrap), d.bootstrap.low if d.bootstrap else None),
        Cell(format_p_value(d.p), d.p),
        Cell(format_p_value(c.p_holm), c.p_holm),
        Cell(format_number(d.corrected, sign=True), d.corrected),
        Cell("–" if c.seeds_needed is None else f"{c.seeds_needed:,}", c.seeds_needed),
        Cell(c.verdict),
    ]
