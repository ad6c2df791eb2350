"""``rkkd compare``: how sure the differences between arms are."""

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.cli.flags.runs import JSON_ONLY, OUT, RUN, SELECT, format_flag
from rkkd_cli.errors import UserError, nearest, unknown_name

if TYPE_CHECKING:
    from rkkd_cli.analysis.compare import Comparison
    from rkkd_cli.analysis.pairing import RecordedRun

MOST_PAIRS = 100


@takes(
    RUN,
    Flag("others", list[str] | None, "Arms of the run to compare (one: with all others), or "
         "another run; default: all arms.", positional=True, metavar="[ARM… | RUN]"),
    Flag("metric", list[str] | None, "A column of metrics.csv; may be given again; default: "
         "test_acc, test_kl, test_rank and test_kendall_tau.", metavar="NAME"),
    SELECT, format_flag("text", "md", "latex", "csv"), JSON_ONLY, OUT,
)  # fmt: skip
def compare(
    run: str,
    others: list[str] | None,
    metric: list[str] | None,
    select: str,
    to: str,
    as_json: bool,
    out: Path,
) -> None:
    """Compare arms over seeds: differences, 95 % intervals, permutation test, effect size."""
    from rkkd_cli.analysis.compare import METRICS
    from rkkd_cli.cli.output.stored_run import recorded

    names = tuple(dict.fromkeys(metric)) if metric else METRICS
    first, words = recorded(run, out), list(dict.fromkeys(others or []))
    if len(words) == 1 and words[0] not in first.arms:
        found = _across(first, _other_run(words[0], first, out), names, select)
    else:
        found = _within(first, words, names, select)
    if not found:
        raise UserError(f"no two arms have values of {', '.join(names)}")
    _print(found, to, as_json)


def _other_run(word: str, first: "RecordedRun", out: Path) -> "RecordedRun":
    """Return the run of that name. Raises UserError that speaks of arms where there is none."""
    from rkkd_cli.cli.output.stored_run import recorded
    from rkkd_cli.records.run_directory import find_runs, open_run

    try:
        open_run(word, out)
    except UserError:
        close = nearest(word, [*first.arms, *(one.name for one in find_runs(out))])
        hint = f"did you mean {close!r}? The" if close else "the"
        raise UserError(
            f"no arm of {first.name} and no run is called {word!r}; {hint} arms are "
            f"{', '.join(first.arms)}"
        ) from None
    return recorded(word, out)


def _within(
    run: "RecordedRun", words: list[str], names: tuple[str, ...], select: str
) -> "list[Comparison]":
    from rkkd_cli.analysis.compare import compare_arms
    from rkkd_cli.analysis.pairing import add_caveats, why_unpaired_within

    for word in words:
        if word not in run.arms:
            raise unknown_name("arm", word, run.arms)
    if len(words) == 1:
        pairs = [(words[0], arm) for arm in run.arms if arm != words[0]]
    else:
        pairs = list(itertools.combinations(words or run.arms, 2))
    if not pairs:
        raise UserError(
            f"run {run.name} has one arm with rows, {', '.join(run.arms)}, and nothing to compare "
            f"it with; name another run: rkkd compare {run.name} RUN"
        )
    if len(pairs) > MOST_PAIRS:
        raise UserError(
            f"{len(run.arms)} arms make {len(pairs):,} pairs; name the arms to compare, or one to "
            f"hold the others against, such as rkkd compare {run.name} {run.arms[0]}"
        )
    found = compare_arms(
        run.metrics,
        names,
        select,
        pairs,
        why_unpaired_within({arm: run.by_arm[arm] for arm in itertools.chain(*pairs)}),
        run.ended_early(),
        run.monitors(),
    )
    return add_caveats(found, run.by_arm)


def _across(
    one: "RecordedRun", other: "RecordedRun", names: tuple[str, ...], select: str
) -> "list[Comparison]":
    from rkkd_cli.analysis.pairing import compare_runs

    if one.name == other.name:
        raise UserError(f"{one.name} is compared with itself; name another run, or arms of it")
    return compare_runs(one, other, names, select)


def _print(found: "list[Comparison]", to: str, as_json: bool) -> None:
    from rkkd_cli.analysis.conclusion import comparison_sentence
    from rkkd_cli.report.comparison_text import (
        comparison_csv,
        comparison_notes,
        comparison_row,
        lay_out_comparisons,
    )
    from rkkd_cli.report.grid_text import WRITERS, plain

    if as_json:
        rows = [comparison_row(one) | {"sentence": comparison_sentence(one)} for one in found]
        typer.echo(json.dumps({"comparisons": rows}, allow_nan=False))
    elif to == "csv":
        typer.echo(comparison_csv(found), nl=False)
    else:
        layouts, notes = lay_out_comparisons(found), comparison_notes(found)
        text = WRITERS.get(to, plain)(layouts, notes)
        typer.echo(text.replace("<", "&lt;") if to == "md" else text, nl=False)
