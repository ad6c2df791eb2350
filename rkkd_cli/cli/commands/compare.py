"""``rkkd compare``: how sure the differences between arms are."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.cli.flags.runs import JSON_ONLY, OUT, RUN, SELECT, format_flag
from rkkd_cli.errors import UserError, nearest

if TYPE_CHECKING:
    from rkkd_cli.analysis.compare import Comparison
    from rkkd_cli.analysis.pairing import RunRecord

# The columns that a narrow terminal does without: seeds needed, g, exact p, n, the means, their
# difference, which the interval has too, and the p that the verdict is by.
NARROW = (10, 9, 8, 1, 3, 2, 4, 6)


@takes(
    RUN,
    Flag("others", list[str] | None, "Arms of the run to compare (one: with all others), or "
         "another run; default: all arms.", positional=True, metavar="[ARM… | RUN]"),
    Flag("metric", list[str] | None, "A column of metrics.csv; may be given again; default: "
         "test_acc (of embeddings test_map_at_r, test_r_precision, test_recall_at_1), test_kl, "
         "test_rank and test_kendall_tau.", metavar="NAME"),
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
    """Compare arms over seeds: differences, 95 % intervals, verdicts, effect sizes.

    A sentence follows on the test accuracy (or MAP@R), or on each metric that is named.
    """
    from rkkd_cli.analysis.pairing import chosen_pairs, compare_runs, compare_within
    from rkkd_cli.analysis.stored_run import read_recorded_run
    from rkkd_cli.report.run_text import unfinished_texts

    first, words = read_recorded_run(run, out), list(dict.fromkeys(others or []))
    task = first.experiment.task_records
    metrics = tuple(dict.fromkeys(metric)) if metric else task.compared_columns
    if len(words) == 1 and words[0] not in first.arms:
        second = _read_second_run(words[0], first, out)
        comparisons = compare_runs(first, second, metrics, select)
        unfinished = unfinished_texts([first, second])
    else:
        unfinished = unfinished_texts([first])
        comparisons = compare_within(first, metrics, chosen_pairs(first, words), select)
    if not comparisons:
        raise UserError(f"no two arms have values of {', '.join(metrics)}")
    if as_json or to == "csv":
        _print_rows(comparisons, unfinished, as_json)
    else:
        _print_tables(comparisons, unfinished, metrics if metric else (task.main_column,), to)


def _read_second_run(name: str, first: "RunRecord", out: Path) -> "RunRecord":
    """Return the run of that name. Raises UserError that also lists the arms of the first run."""
    from rkkd_cli.analysis.stored_run import read_recorded_run
    from rkkd_cli.records.run_directory import find_runs, open_run

    try:
        open_run(name, out)
    except UserError:
        close = nearest(name, [*first.arms, *(run.name for run in find_runs(out))])
        hint = f"did you mean {close!r}? The" if close else "the"
        raise UserError(
            f"no arm of {first.name} and no run is called {name!r}; {hint} arms are "
            f"{', '.join(first.arms)}"
        ) from None
    second = read_recorded_run(name, out)
    if second.name == first.name:
        raise UserError(f"{first.name} is compared with itself; name another run, or arms of it")
    return second


def _print_rows(comparisons: "list[Comparison]", unfinished: list[str], as_json: bool) -> None:
    """Print the comparisons for programs: as JSON, or as CSV."""
    from rkkd_cli.analysis.conclusion import comparison_sentence
    from rkkd_cli.cli.output.console import err, print_line, print_text
    from rkkd_cli.report.comparison_text import comparison_csv, comparison_row

    if as_json:
        rows = [comparison_row(c) | {"sentence": comparison_sentence(c)} for c in comparisons]
        typer.echo(json.dumps({"unfinished": unfinished, "comparisons": rows}, allow_nan=False))
    else:
        for text in unfinished:
            print_line(err, text, style="yellow")
        print_text(comparison_csv(comparisons))


def _print_tables(
    comparisons: "list[Comparison]", unfinished: list[str], in_words: Sequence[str], to: str
) -> None:
    """Print the tables, then sentences on the metrics ``in_words``."""
    from rkkd_cli.cli.output.console import folded, print_text
    from rkkd_cli.cli.output.tables import narrowed_text
    from rkkd_cli.report.comparison_text import (
        comparison_legend,
        comparison_sentences,
        lay_out_comparisons,
    )
    from rkkd_cli.report.text_tables import WRITERS

    tables, no_room = lay_out_comparisons(comparisons), list[str]()
    if to == "text":
        tables, no_room = narrowed_text(tables, NARROW)
    legend = comparison_legend(comparisons, tables[0].header)
    notes = [*comparison_sentences(comparisons, in_words), legend, *no_room]
    if to == "text":
        notes = [folded(note) for note in notes if note]
    text = WRITERS[to](tables, notes)
    banners = "".join(f"{'% ' if to == 'latex' else ''}{text}\n\n" for text in unfinished)
    print_text(banners + (text.replace("<", "&lt;") if to == "md" else text))
