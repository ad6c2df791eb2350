"""A comparison in one plain sentence."""

from rkkd_cli.analysis.compare import Comparison
from rkkd_cli.analysis.numbers import NEUTRAL, counted, more_is_better, told, told_interval, told_p
from rkkd_cli.analysis.statistics import ALPHA, MOST


def sentence(comparison: Comparison) -> str:
    """Return what is known of ``other`` beside ``one``, and what limits it."""
    c, d = comparison, comparison.difference
    what = f"{c.metric}, {c.other} − {c.one}: {told(d.mean, sign=True)}"
    if d.interval is None:
        known = f"{what}. Not resolved: {_why_no_interval(c)}"
    elif c.verdict == "not resolved":
        known = f"{what} ({_interval(c)}). Not resolved: the interval contains 0{_wanted(c)}"
    else:
        known = f"{what} ({_interval(c)}). {c.other} is {c.verdict}{_better(c)}{_permuted(c)}"
    return f"{known}{_limits(c)}."


def _better(c: Comparison) -> str:
    if c.metric in NEUTRAL:
        return ""
    better = more_is_better(c.metric) == (c.verdict == "higher")
    return ", which is better" if better else ", which is worse"


def _interval(c: Comparison) -> str:
    kind = "paired t" if c.difference.paired else "Welch, unpaired"
    return f"95 % interval {told_interval(c.difference.interval)}, {kind}, {seeds(c)}"


def seeds(c: Comparison) -> str:
    """Return how many seeds there are, of each arm where they are not paired."""
    d = c.difference
    return counted(d.n, "seed") if d.paired else f"{d.n} and {counted(d.n_other, 'seed')}"


def _why_no_interval(c: Comparison) -> str:
    if c.difference.is_flat:
        return "it is the same in every seed, so there is no spread to estimate an interval from"
    return f"with {seeds(c)} no interval exists"


def _wanted(c: Comparison) -> str:
    if c.seeds_needed is None:
        return f"; not even {MOST:,} seeds would resolve so small a difference"
    each = "" if c.difference.paired else " of each arm"
    return (
        f"; about {c.seeds_needed} seeds{each} would resolve a difference of this effect size at "
        "80 % power"
    )


def _permuted(c: Comparison) -> str:
    """Return what the permutation test says against a resolved difference, if it does."""
    d = c.difference
    if d.smallest_p is not None and d.smallest_p > ALPHA:
        return f"; {seeds(c)} cannot give a permutation p below {told_p(d.smallest_p)}"
    if c.p_holm is not None and c.p_holm > ALPHA:
        return (
            f"; but among the {c.family} comparisons made here p is {told_p(c.p_holm)} "
            "(permutation, Holm)"
        )
    return ""


def _limits(c: Comparison) -> str:
    limits = []
    if c.caveat:
        limits.append(c.caveat)
    if c.why_unpaired:
        limits.append(f"not paired, since {c.why_unpaired}")
    if c.dropped:
        limits.append(
            f"{counted(c.dropped, 'seed')} left out that not both arms have at that epoch"
        )
    if c.select == "last" and c.epochs_one != c.epochs_other:
        ends = [", ".join(map(str, epochs)) for epochs in (c.epochs_one, c.epochs_other)]
        limits.append(f"the last epochs differ, {ends[1]} against {ends[0]}")
    if c.select != "last":
        limits.append(c.which_epoch)
    return "".join(f"; {limit}" for limit in limits)
