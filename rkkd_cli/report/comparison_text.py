"""Comparisons of arms as text: a table per pair, a row per metric, and sentences."""

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from rkkd_cli.analysis.compare import Comparison
from rkkd_cli.analysis.conclusion import comparison_sentence
from rkkd_cli.analysis.numbers import format_interval, format_number, format_p_value
from rkkd_cli.errors import printable
from rkkd_cli.report.text_tables import TextCell, TextTable


def lay_out_comparisons(comparisons: Sequence[Comparison]) -> list[TextTable]:
    """Return a table for each pair of arms."""
    tables: dict[tuple[str, str], TextTable] = {}
    for c in comparisons:
        first, second = printable(c.first), printable(c.second)
        header = [
            "metric", "n", first, second, "difference", "95 % t", "p Holm", "verdict", "p exact",
            "g", "seeds for 80 %",
        ]  # fmt: skip
        table = TextTable(f"{second} − {first}, {c.which_epoch}", header, [])
        tables.setdefault((c.first, c.second), table).rows.append([*map(TextCell, _cells(c))])
    return [*tables.values()]


def _cells(c: Comparison) -> list[str]:
    d = c.difference
    return [
        c.metric,
        str(d.n) if d.paired else f"{d.n}, {d.n_second}",
        format_number(c.mean_first, significant=4),
        format_number(c.mean_second, significant=4),
        format_number(d.mean, sign=True),
        format_interval(d.interval),
        format_p_value(c.p_holm),
        c.verdict,
        format_p_value(d.permutation_p),
        format_number(d.corrected, sign=True),
        "–" if c.seeds_needed is None else f"{c.seeds_needed:,}",
    ]


def comparison_sentences(comparisons: Sequence[Comparison], metrics: Collection[str]) -> list[str]:
    """Return a sentence per comparison of these metrics."""
    return [printable(comparison_sentence(c)) for c in comparisons if c.metric in metrics]


def comparison_legend(comparisons: Sequence[Comparison], header: Collection[str]) -> str:
    """Return what these columns of the table mean."""
    paired = [c.difference.paired for c in comparisons]
    kinds = "paired over seeds" if all(paired) else "not paired" if not any(paired) else "mixed"
    effect = "d_z" if all(paired) else "Cohen's d" if not any(paired) else "d_z or Cohen's d"
    family = comparisons[0].family
    corrected = f", after Holm's correction for {family} comparisons" if family > 1 else ""
    exact = all(c.difference.is_exact for c in comparisons)
    smallest = [c.difference.smallest_p for c in comparisons if c.difference.smallest_p is not None]
    least = f", at least {format_p_value(min(smallest))} with so few seeds" if smallest else ""
    meanings = {
        "n": f"n: seeds ({kinds}).",
        "p Holm": f"p Holm: of the t test{corrected}; the verdict is by it.",
        "p exact": f"p exact: {'' if exact else 'sampled '}permutation test, uncorrected{least}.",
        "g": f"g: {effect} with Hedges' small-sample factor.",
        "seeds for 80 %": "Seeds for 80 %: for a verdict with 80 % power, if difference and spread "
        "are as measured.",
    }
    return " ".join(meaning for name, meaning in meanings.items() if name in header)


def comparison_csv(comparisons: Sequence[Comparison]) -> str:
    """Return a line per comparison with all digits, for pandas."""
    rows = pd.DataFrame([comparison_row(c) for c in comparisons], dtype=object)
    return rows.to_csv(index=False, lineterminator="\n")


def comparison_row(c: Comparison) -> dict[str, Any]:
    """Return a comparison as one flat row; quantities that do not exist are None."""
    d = c.difference
    return {
        "metric": c.metric, "one": c.first, "other": c.second, "select": c.select,
        "paired": d.paired, "n": d.n, "n_other": d.n_second, "mean_one": c.mean_first,
        "mean_other": c.mean_second, "difference": d.mean,
        "t_low": d.interval.low if d.interval else None,
        "t_high": d.interval.high if d.interval else None,
        "bootstrap_low": d.bootstrap.low if d.bootstrap else None,
        "bootstrap_high": d.bootstrap.high if d.bootstrap else None,
        "bootstrap_method": d.bootstrap_method, "p": d.p, "p_holm": c.p_holm, "family": c.family,
        "permutation_p": d.permutation_p, "permutation_is_exact": d.is_exact,
        "smallest_permutation_p": d.smallest_p, "effect": d.effect, "effect_hedges": d.corrected,
        "seeds_needed": c.seeds_needed, "dropped_seeds": c.dropped, "why_unpaired": c.why_unpaired,
        "caveat": c.caveat, "why_not_judged": c.why_not_judged, "verdict": c.verdict,
    }  # fmt: skip
