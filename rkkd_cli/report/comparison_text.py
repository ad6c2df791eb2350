"""Comparisons of arms as text: a table per pair, a row per metric, and a sentence each."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from rkkd_cli.analysis.compare import Comparison
from rkkd_cli.analysis.conclusion import comparison_sentence
from rkkd_cli.analysis.numbers import format_count, format_interval, format_number, format_p_value
from rkkd_cli.errors import printable
from rkkd_cli.report.text_tables import TextCell, TextTable


def lay_out_comparisons(comparisons: Sequence[Comparison]) -> list[TextTable]:
    """Return a table for each pair of arms."""
    tables: dict[tuple[str, str], TextTable] = {}
    for c in comparisons:
        first, second = printable(c.first), printable(c.second)
        header = [
            "metric", "n", first, second, "difference", "95 % t", "95 % bootstrap", "p", "p Holm",
            "d", "g", "seeds for 80 %",
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
        format_interval(d.bootstrap),
        format_p_value(d.p),
        format_p_value(c.p_holm),
        format_number(d.effect, sign=True),
        format_number(d.corrected, sign=True),
        "–" if c.seeds_needed is None else f"{c.seeds_needed:,}",
    ]


def comparison_notes(comparisons: Sequence[Comparison]) -> list[str]:
    """Return a legend of the columns, then a sentence per comparison."""
    paired = [c.difference.paired for c in comparisons]
    kinds = "paired over seeds" if all(paired) else "not paired" if not any(paired) else "mixed"
    effects = "d: d_z" if all(paired) else "d: Cohen's d" if not any(paired) else "d: d_z or d"
    exact = all(c.difference.p_is_exact for c in comparisons)
    methods = {c.difference.bootstrap_method for c in comparisons} - {None}
    return [
        f"n: seeds ({kinds}). p: {'exact' if exact else 'sampled'} permutation test, two-sided; "
        f"p Holm: corrected for {format_count(comparisons[0].family, 'comparison')}, all that are "
        f"shown. {effects}; g: the same with Hedges' small-sample factor. Bootstrap: "
        f"{' or '.join(sorted(map(str, methods))) or 'none'}; of few seeds it is too narrow.",
        *(printable(comparison_sentence(c)) for c in comparisons),
    ]


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
        "bootstrap_method": d.bootstrap_method, "p": d.p, "p_is_exact": d.p_is_exact,
        "smallest_p": d.smallest_p, "p_holm": c.p_holm, "family": c.family, "effect": d.effect,
        "effect_hedges": d.corrected, "seeds_needed": c.seeds_needed, "dropped_seeds": c.dropped,
        "why_unpaired": c.why_unpaired, "caveat": c.caveat, "verdict": c.verdict,
    }  # fmt: skip
