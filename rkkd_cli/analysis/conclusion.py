"""A comparison in one plain sentence."""

from rkkd_cli.analysis.compare import Comparison
from rkkd_cli.analysis.numbers import (
    NEUTRAL,
    format_count,
    format_interval,
    format_number,
    format_p_value,
    more_is_better,
)
from rkkd_cli.analysis.statistics import MAX_SEEDS, MIN_SEEDS


def comparison_sentence(c: Comparison) -> str:
    """Return what is known of ``second`` relative to ``first``, and what limits the answer."""
    difference = format_number(c.difference.mean, sign=True)
    interval = "" if c.difference.interval is None else f" ({_interval(c)})"
    text = f"{c.metric}, {c.second} − {c.first}: {difference}{interval}. {_verdict(c)}"
    return f"{text}{''.join(f'; {limit}' for limit in _limits(c))}."


def _verdict(c: Comparison) -> str:
    if c.verdict == "not judged":
        return f"Not judged: {c.why_not_judged}"
    if c.verdict == "too few seeds":
        return f"Too few seeds: {_seeds(c)}, and a verdict takes {MIN_SEEDS}"
    if c.verdict != "not resolved":
        return f"{c.second} is {c.verdict}{_better(c)} ({_corrected(c)})"
    interval = c.difference.interval
    if interval is None:
        return "Not resolved: it is the same in every seed, so nothing tells how sure it is"
    if interval.low <= 0 <= interval.high:
        return f"Not resolved: the interval contains 0{_seeds_needed(c)}"
    return f"Not resolved: {_corrected(c)}{_seeds_needed(c)}"


def _corrected(c: Comparison) -> str:
    p = format_p_value(c.p_holm)
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    return p if c.family == 1 else f"{p} after Holm's correction for {c.family} comparisons"


def _better(c: Comparison) -> str:
    if c.metric in NEUTRAL:
        return ""
    better = more_is_better(c.metric) == (c.verdict == "higher")
    return ", which is better" if better else ", which is worse"


def _interval(c: Comparison) -> str:
    kind = "paired t" if c.difference.paired else "Welch, unpaired"
    return f"95 % interval {format_interval(c.difference.interval)}, {kind}, {_seeds(c)}"


def _seeds(c: Comparison) -> str:
    """Return the number of seeds, of each arm where they are not paired."""
    n, n_second = c.difference.n, c.difference.n_second
    seeds = format_count(n, "seed")
    return seeds if c.difference.paired else f"{n} and {format_count(n_second, 'seed')}"


def _seeds_needed(c: Comparison) -> str:
    if c.seeds_needed is None:
        return f"; not even {MAX_SEEDS:,} seeds would resolve so small a difference"
    seeds = f"{c.seeds_needed} seeds" + ("" if c.difference.paired else " of each arm")
    return f"; about {seeds} would resolve a difference of this effect size at 80 % power"


def _limits(c: Comparison) -> list[str]:
    limits = [c.caveat] if c.caveat else []
    if c.why_unpaired:
        limits.append(f"not paired, since {c.why_unpaired}")
    if c.dropped:
        limits.append(
            f"{format_count(c.dropped, 'seed')} left out that not both arms have at that epoch"
        )
    if c.select == "last" and c.epochs_first != c.epochs_second:
        first, second = (", ".join(map(str, e)) for e in (c.epochs_first, c.epochs_second))
        limits.append(f"the last epochs differ, {second} against {first}")
    if c.select != "last":
        limits.append(c.which_epoch)
    return limits
