"""The answer that a page begins with: a sentence, two numbers, and their difference."""

from collections.abc import Sequence
from typing import NamedTuple

from rkkd_cli.analysis.compare import Comparison
from rkkd_cli.analysis.grid_tables import format_value, is_as_good, seeds_text, short_key
from rkkd_cli.analysis.numbers import format_count
from rkkd_cli.analysis.paired_curves import arm_pairs, pairs_text
from rkkd_cli.analysis.summary import ArmSummary, summarise
from rkkd_cli.config.tasks import task_of
from rkkd_cli.errors import printable
from rkkd_cli.records.manifest import teacher_metric, teacher_name
from rkkd_cli.report.grid_picture import GridPicture
from rkkd_cli.report.page.sources import PageRun
from rkkd_cli.report.run_text import unfinished_text
from rkkd_cli.report.words import quantity_of

MAX_DIFFERENCES = 4  # of more, the figure and the table have the numbers
MAX_BEST_CELLS = 3


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

    ``comparisons`` are those that the page shows, so that its verdicts agree. The answer of a run
    that is not finished begins with the epoch that its numbers are from.
    """
    if run.grid:
        return _grid_headline(run.grid.picture)
    pairs, main = arm_pairs(run), run.experiment.task_records.main_column
    of_pairs = [c for c in comparisons if c.metric == main and (c.first, c.second) in pairs]
    summaries = summarise(run.metrics, run.ended_early())
    if len(of_pairs) == 1:
        pair = (of_pairs[0].first, of_pairs[0].second)
        return _pair_headline(of_pairs[0], _epoch_of([s for s in summaries if s.arm in pair], run))
    epoch = _epoch_of(summaries, run)
    if of_pairs:
        return _pairs_headline(of_pairs, summaries, epoch)
    return _arms_headline(summaries, run, epoch)


def _epoch_of(summaries: Sequence[ArmSummary], run: PageRun) -> str:
    """Return ``At epoch 12 of 30, `` for the arms of a run that lacks seeds, or nothing."""
    arms = [arm for arm in summaries if arm.arm in run.by_arm]
    if not arms or unfinished_text(run) is None:
        return ""
    epochs = {epoch for arm in arms for epoch in arm.epochs.values()}
    planned = {run.by_arm[arm.arm].training.epochs for arm in arms}
    if run.status == "finished" and epochs == planned:  # the banner says which seeds are missing
        return ""
    reached, plan = (
        f"{min(ns)} to {max(ns)}" if len(ns) > 1 else str(*ns) for ns in (epochs, planned)
    )
    return f"At epoch{'s' * (len(epochs) > 1)} {reached} of {plan}, "


def _pair_headline(c: Comparison, epoch: str) -> Headline:
    first, second, d = printable(c.first), printable(c.second), c.difference
    metric = quantity_of(c.metric).name
    seeds = format_count(min(d.n, d.n_second), "seed")
    numbers = [
        HeadlineNumber(_percent(c.mean_first), f"{metric}, {first}"),
        HeadlineNumber(_percent(c.mean_second), f"{metric}, {second}"),
        _difference_number(c, seeds),
    ]
    if c.verdict in ("higher", "lower"):
        ends = "has" if epoch else "ends with"
        sentence = f"{second} {ends} a {c.verdict} {metric} than {first}."
    elif c.verdict == "not resolved":
        sentence = f"{seeds} resolve no difference in {metric} between {second} and {first}"
        needed = c.seeds_needed  # None if the difference is the same in every seed
        sentence += f"; about {needed:,} would resolve one of this size." if needed else "."
    elif c.verdict == "too few seeds":
        sentence = f"{seeds}: too few to tell {second} from {first} by {metric}."
    else:
        sentence = f"The {metric} of {second} and {first} is not judged: {c.why_not_judged}."
    return Headline(printable(f"{epoch}{sentence}"), numbers)


def _pairs_headline(
    comparisons: Sequence[Comparison], summaries: Sequence[ArmSummary], epoch: str
) -> Headline:
    verdicts = [c.verdict for c in comparisons]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
    pairs = [(c.first, c.second) for c in comparisons]
    what = printable(pairs_text(pairs, [arm.arm for arm in summaries], "against"))
    metric = quantity_of(comparisons[0].metric).name
    sentence = f"{len(comparisons)} differences in {metric}, {what}: {counts}."
    shown = comparisons if len(comparisons) <= MAX_DIFFERENCES else ()
    numbers = [*_extremes(summaries), *(_difference_number(c, c.verdict) for c in shown)]
    return Headline(f"{epoch}{sentence}", numbers)


def _difference_number(c: Comparison, more: str) -> HeadlineNumber:
    d, interval = c.difference, "no interval"
    if d.interval is not None:
        interval = f"95 % interval {d.interval.low:.2f} to {d.interval.high:.2f}"
    value = f"{d.mean:+.2f} {quantity_of(c.metric).difference_unit}"
    return HeadlineNumber(value, printable(f"{c.second} − {c.first}"), f"{interval}, {more}")


def _extremes(summaries: Sequence[ArmSummary]) -> list[HeadlineNumber]:
    main = task_of(summaries[0].metrics).main_column
    ordered = sorted(summaries, key=lambda arm: -arm.metrics[main].mean)
    best, worst = ordered[0], ordered[-1]
    return [_arm_number(best, "highest"), _arm_number(worst, "lowest")]


def _arm_number(arm: ArmSummary, which: str = "") -> HeadlineNumber:
    metric = quantity_of(task_of(arm.metrics).main_column)
    accuracy = arm.metrics[metric.column]
    what = f"{which} {metric.name}, {arm.arm}" if which else f"{metric.name}, {arm.arm}"
    spread = "" if accuracy.std is None else f"± {accuracy.std:.2f}, "
    return HeadlineNumber(
        _percent(accuracy.mean), printable(what), f"{spread}{format_count(arm.n, 'seed')}"
    )


def _arms_headline(summaries: Sequence[ArmSummary], run: PageRun, epoch: str) -> Headline:
    """Return the answer of arms that are no pairs."""
    metric = quantity_of(run.experiment.task_records.main_column)
    several = len(run.experiment.teachers) > 1
    teachers = [
        HeadlineNumber(
            _percent(teacher_metric(teacher)), printable(f"teacher {teacher_name(teacher)}")
        )
        for teacher in run.manifest.teachers[: None if several else 1]
    ]
    if len(summaries) == 1:
        arm = summaries[0]
        accuracy, ends = _percent(arm.metrics[metric.column].mean), "has" if epoch else "ends with"
        sentence = f"{epoch}{arm.arm} {ends} {accuracy} {metric.name}."
        return Headline(printable(sentence), [_arm_number(arm), *teachers])
    best, worst = _extremes(summaries)
    count = format_count(len(summaries), "arm")
    between = f"{'are' if epoch else 'end'} between {worst.value} and {best.value} {metric.name}"
    sentence = f"{epoch}{count} {between}."
    return Headline(sentence, [best, worst, *teachers])


def _grid_headline(picture: GridPicture) -> Headline:
    """Return the best cells of a grid, and the levels to compare them with."""
    means, keys, metric = picture.means, picture.keys, picture.metric.name
    best = float(means["acc"].max())
    shared = [cell for cell in means.to_dict("records") if is_as_good(cell["acc"], best)]
    cells = [
        ", ".join(f"{short_key(key, keys)} = {format_value(cell[key])}" for key in keys)
        for cell in shared[:MAX_BEST_CELLS]
    ]
    more = f"; and {len(shared) - len(cells)} more" if len(shared) > len(cells) else ""
    seeds = seeds_text([cell["n"] for cell in shared])
    numbers = [HeadlineNumber(_percent(best), f"best {metric}", seeds)]
    numbers += [HeadlineNumber(_percent(v), printable(k)) for k, v in picture.references.items()]
    has = f"{len(shared)} share the best {metric}:" if len(shared) > 1 else "the best has"
    count = format_count(len(means), "finished cell")
    sentence = f"Of {count} {has} {'; '.join(cells)}{more} ({picture.subtitle})."
    return Headline(printable(f"{sentence}{_baseline_sentence(picture, best)}"), numbers)


def _baseline_sentence(picture: GridPicture, best: float) -> str:
    """Return that no cell is better than the student without distillation, if that is so."""
    arm, accuracy = max(
        picture.baselines.items(), key=lambda item: item[1].mean, default=("", None)
    )
    if accuracy is None or not is_as_good(accuracy.mean, best):
        return ""
    level = f"{_percent(accuracy.mean)}, {seeds_text([accuracy.n])}"
    return f" None is above the student without distillation ({arm}: {level})."


def _percent(value: float) -> str:
    return f"{value:.2f} %"
