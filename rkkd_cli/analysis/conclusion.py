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
from rkkd_cli.analysis.statistics import ALPHA, MAX_SEEDS


def comparison_sentence(c: Comparison) -> str:
    """Return what is known of ``second`` relative to ``first``, and what limits the answer."""
    difference = format_number(c.difference.mean, sign=True)
    text = f"{c.metric}, {c.second} − {c.first}: {difference}"
    if c.difference.interval is None:
        text += f". Not resolved: {_why_no_interval(c)}"
    elif c.verdict == "not resolved":
        text += f" ({_interval(c)}). Not resolved: the interval contains 0{_seeds_needed(c)}"
    else:
        text += f" ({_interval(c)}). {c.second} is {c.verdict}{_better(c)}{_permutation_limit(c)}"
    return f"{text}{''.join(f'; {limit}' for limit in _limits(c))}."


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


def _why_no_interval(c: Comparison) -> str:
    if c.difference.is_flat:
        return "it is the same in every seed, so there is no spread to estimate an interval from"
    return f"with {_seeds(c)} no interval exists"


def _seeds_needed(c: Comparison) -> str:
    if c.seeds_needed is None:
        return f"; not even {MAX_SEEDS:,} seeds would resolve so small a difference"
    seeds = f"{c.seeds_needed} seeds" + ("" if c.difference.paired else " of each arm")
    return f"; about {seeds} would resolve a difference of this effect size at 80 % power"


def _permutation_limit(c: Comparison) -> str:
    """Return why the permutation test does not confirm a resolved difference, if it does not."""
    smallest = c.difference.smallest_p
    if smallest is not None and smallest > ALPHA:
        return f"; {_seeds(c)} cannot give a permutation p below {format_p_value(smallest)}"
    if c.p_holm is None or c.p_holm <= ALPHA:
        return ""
    p = f"{format_p_value(c.p_holm)} (permutation, Holm)"
    return f"; but among the {c.family} comparisons made here p is {p}"


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
