"""The answer that a page begins with: a sentence, two numbers, and their difference."""

from collections.abc import Sequence
from typing import NamedTuple

from rkkd_cli.analysis.compare import MAIN_METRIC, Comparison
from rkkd_cli.analysis.grid_tables import format_value, short_key
from rkkd_cli.analysis.numbers import format_count
from rkkd_cli.analysis.paired_curves import arm_pairs
from rkkd_cli.analysis.summary import ArmSummary, summarise
from rkkd_cli.errors import printable
from rkkd_cli.report.grid_picture import GridPicture
from rkkd_cli.report.page.sources import PageRun
from rkkd_cli.report.words import quantity_of

MAIN = quantity_of(MAIN_METRIC)
MAX_DIFFERENCES = 4  # of more, the figure and the table have the numbers


class HeadlineNumber(NamedTuple):
    """A number in large type, what it is of, and its spread or interval."""

    value: str
    what: str
    more: str = ""


class Headline(NamedTuple):
    """The answer of a run."""

    sentence: str
    numbers: Sequence[HeadlineNumber]


def headline_of(run: PageRun, comparisons: Sequence[Comparison]) -> Headline:
    """Return the answer of a run: of its only pair of arms, of all pairs, of its cells or arms.

    ``comparisons`` are those that the page shows, so that its verdicts agree.
    """
    if run.grid:
        return _grid_headline(run.grid.picture)
    pairs = arm_pairs(run)
    of_pairs = [c for c in comparisons if c.metric == MAIN.column and (c.first, c.second) in pairs]
    summaries = summarise(run.metrics, run.ended_early())
    if len(of_pairs) == 1:
        return _pair_headline(of_pairs[0])
    if of_pairs:
        return _pairs_headline(of_pairs, summaries)
    return _arms_headline(summaries, run)


def _pair_headline(c: Comparison) -> Headline:
    first, second, d = printable(c.first), printable(c.second), c.difference
    seeds = format_count(min(d.n, d.n_second), "seed")
    numbers = [
        HeadlineNumber(_percent(c.mean_first), f"{MAIN.name}, {first}"),
        HeadlineNumber(_percent(c.mean_second), f"{MAIN.name}, {second}"),
        _difference_number(c, seeds),
    ]
    if c.verdict in ("higher", "lower"):
        sentence = f"{second} ends with a {c.verdict} {MAIN.name} than {first}."
    elif c.verdict == "not resolved":
        sentence = f"{seeds} resolve no difference in {MAIN.name} between {second} and {first}"
        needed = c.seeds_needed  # None if the difference is the same in every seed
        sentence += f"; about {needed:,} would resolve one of this size." if needed else "."
    elif c.verdict == "too few seeds":
        sentence = f"{seeds}: too few to tell {second} from {first} by {MAIN.name}."
    else:
        sentence = f"The {MAIN.name} of {second} and {first} is not judged: {c.why_not_judged}."
    return Headline(printable(sentence), numbers)


def _pairs_headline(comparisons: Sequence[Comparison], summaries: Sequence[ArmSummary]) -> Headline:
    verdicts = [c.verdict for c in comparisons]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
    what = _subtracted(comparisons)
    sentence = f"{format_count(len(comparisons), 'difference')} in {MAIN.name}, {what}: {counts}."
    shown = comparisons if len(comparisons) <= MAX_DIFFERENCES else ()
    return Headline(
        sentence, [*_extremes(summaries), *(_difference_number(c, c.verdict) for c in shown)]
    )


def _subtracted(comparisons: Sequence[Comparison]) -> str:
    firsts = {printable(c.first) for c in comparisons}
    if len(firsts) == 1:
        return f"each arm against {firsts.pop()}"
    return "each arm with the ranking loss against the same without"


def _difference_number(c: Comparison, more: str) -> HeadlineNumber:
    d, interval = c.difference, "no interval"
    if d.interval is not None:
        interval = f"95 % interval {d.interval.low:.2f} to {d.interval.high:.2f}"
    value = f"{d.mean:+.2f} {MAIN.difference_unit}"
    return HeadlineNumber(value, printable(f"{c.second} − {c.first}"), f"{interval}, {more}")


def _extremes(summaries: Sequence[ArmSummary]) -> list[HeadlineNumber]:
    ordered = sorted(summaries, key=lambda arm: -arm.metrics[MAIN.column].mean)
    best, worst = ordered[0], ordered[-1]
    return [_arm_number(best, "highest"), _arm_number(worst, "lowest")]


def _arm_number(arm: ArmSummary, which: str = "") -> HeadlineNumber:
    accuracy = arm.metrics[MAIN.column]
    what = f"{which} {MAIN.name}, {arm.arm}" if which else f"{MAIN.name}, {arm.arm}"
    spread = "" if accuracy.std is None else f"± {accuracy.std:.2f}, "
    return HeadlineNumber(
        _percent(accuracy.mean), printable(what), f"{spread}{format_count(arm.n, 'seed')}"
    )


def _arms_headline(summaries: Sequence[ArmSummary], run: PageRun) -> Headline:
    """Return the answer of arms that are no pairs."""
    teachers = [
        HeadlineNumber(_percent(teacher["test_acc"]), printable(f"teacher {teacher['model']}"))
        for teacher in run.manifest.teachers[:1]
    ]
    if len(summaries) == 1:
        arm = summaries[0]
        sentence = f"{arm.arm} ends with {_percent(arm.metrics[MAIN.column].mean)} {MAIN.name}."
        return Headline(printable(sentence), [_arm_number(arm), *teachers])
    best, worst = _extremes(summaries)
    count = format_count(len(summaries), "arm")
    sentence = f"{count} end between {worst.value} and {best.value} {MAIN.name}."
    return Headline(sentence, [best, worst, *teachers])


def _grid_headline(picture: GridPicture) -> Headline:
    """Return the best cell of a grid, and the levels to compare it with."""
    means, keys = picture.means, picture.keys
    best = means.sort_values("acc", ascending=False, kind="stable").to_dict("records")[0]
    cell = ", ".join(f"{short_key(key, keys)} = {format_value(best[key])}" for key in keys)
    numbers = [HeadlineNumber(_percent(float(best["acc"])), f"best {MAIN.name}")]
    numbers += [HeadlineNumber(_percent(v), printable(k)) for k, v in picture.references.items()]
    count = format_count(len(means), "finished cell")
    sentence = f"Of {count} the best has {cell} ({picture.subtitle})."
    return Headline(printable(sentence), numbers)


def _percent(value: float) -> str:
    return f"{value:.2f} %"
