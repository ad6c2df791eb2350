"""Tables and lines that several commands print."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from rkkd_cli.cli.output.console import fits, out, print_folded, print_line, print_table
from rkkd_cli.cli.output.encoding import as_written
from rkkd_cli.config.tasks import task_of
from rkkd_cli.errors import printable

if TYPE_CHECKING:  # most tables need none of these, and no pandas
    from rkkd_cli.analysis.published import ComparedAccuracy
    from rkkd_cli.analysis.summary import ArmSummary, RunSummaries
    from rkkd_cli.records.manifest import Manifest, StudentCost
from rkkd_cli.report.text_tables import TextTable

LONG_TEXT = 30  # columns of longer texts are folded between words
LEAST_FOLDED = 24  # a spare column of texts goes before it becomes narrower
# Columns whose cells are all of this form, or empty, are aligned to the right; also in ASCII.
NUMBER = r"[-+−]?[\d,]+(\.\d+)?(e[-+]?\d+)?"
NUMBERS = re.compile(rf"{NUMBER}( (±|\+-) {NUMBER}|[/–-]{NUMBER}| %)?")


def early_lines(manifest: "Manifest") -> list[str]:
    """Return a line for each arm with seeds that ended early."""
    by_arm: dict[str, list[str]] = {}
    for end in manifest.ended_early:
        best = f"best {end['monitor']} at epoch {end['best_epoch']}"
        seed = f"seed {end['seed']} after epoch {end['epoch']} ({best})"
        by_arm.setdefault(end["arm"], []).append(seed)
    return [f"ended early: {arm}, {', '.join(seeds)}" for arm, seeds in by_arm.items()]


def plain_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    prose: Collection[str] = (),
    spare: Collection[str] = (),
) -> Table:
    """Return a table whose cells are plain text, without markup; numbers stand on the right.

    On a terminal only the columns of ``prose`` and of long texts are folded, between words. Those
    that are ``spare`` as well are not, or prose keeps a width that can be read.
    """
    lines = [[cell_text(cell) for cell in row] for row in (header, *rows)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, (head, *cells) in zip(header, zip(*lines, strict=True), strict=True):
        width = max(cell.cell_len for cell in (head, *cells))
        is_long = width > LONG_TEXT and any(" " in cell.plain for cell in cells)
        folds = name in prose or (is_long and name not in spare)
        least = min(width, LEAST_FOLDED) if name in spare else None
        texts = [cell.plain for cell in cells if cell.plain]
        are_numbers = bool(texts) and all(map(NUMBERS.fullmatch, texts))
        justify: JustifyMethod = "right" if are_numbers else "left"
        table.add_column(
            head, min_width=least if folds else width, no_wrap=not folds, overflow="fold",
            justify=justify,
        )  # fmt: skip
    for line in lines[1:]:
        table.add_row(*line)
    return table


def narrowed(
    header: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    spare: Sequence[int],
    console: Console,
    margin: int = 0,
    prose: Collection[str] = (),
) -> tuple[Table, list[str]]:
    """Return a table for the console, and the names of the columns for which it has no room.

    Only columns with an index in ``spare`` go, the first one first; those of ``prose`` are folded
    before. ``margin`` columns of the console stay free on the right.
    """
    names = [header[index] for index in spare]
    for count in range(len(spare) + 1):
        gone = spare[:count]
        kept = [index for index in range(len(header)) if index not in gone]
        lines = ([row[i] for i in kept] for row in rows)
        table = plain_table([header[i] for i in kept], lines, prose, names)
        if fits(table, console, margin):
            break
    return table, [header[index] for index in sorted(gone)]


def narrowed_text(
    tables: Sequence[TextTable], spare: Sequence[int]
) -> tuple[list[TextTable], list[str]]:
    """Return tables of equal columns without those for which stdout has no room, and a note."""
    gone: list[str] = []
    for table in tables:
        rows = [[cell.text for cell in row] for row in table.rows]
        gone = max(gone, narrowed(table.header, rows, spare, out)[1], key=len)
    kept = [i for i in range(len(tables[0].header)) if i not in spare[: len(gone)]]
    narrow = [
        table._replace(
            header=[table.header[i] for i in kept],
            rows=[[row[i] for i in kept] for row in table.rows],
        )
        for table in tables
    ]
    return narrow, [no_room_note(gone)] if gone else []


def no_room_note(gone: Sequence[str]) -> str:
    """Return what is said of columns for which a terminal has no room."""
    them = "it" if len(gone) == 1 else "them"
    return f"no room for {', '.join(gone)}: a wider terminal or a pipe shows {them}"


def cell_text(text: str | Text) -> Text:
    """Return the text of a cell as stdout's encoding can show it, so that its width is known."""
    return text if isinstance(text, Text) else Text(as_written(printable(text), out.encoding))


def print_summary(
    summaries: "RunSummaries",
    students: "Mapping[str, StudentCost]",
    published: "Mapping[str, ComparedAccuracy] | None" = None,
) -> None:
    """Print the tables of the arms; the first one with ``published`` accuracies, if given."""
    epochs = {epoch for arm in summaries.last for epoch in arm.epochs.values()}
    of_each = " of each arm and seed (not the same one)" if len(epochs) > 1 else ""
    title = f"Last epoch{of_each}, mean ± sample standard deviation over n seeds:"
    print_line(out, title)
    _print_arms(summaries.last, published)
    _print_averaged(summaries.last)
    for monitor, arms in summaries.selected.items():
        out.print()
        print_line(out, f"Each seed's epoch with the best {monitor}; no test image chose it:")
        _print_arms(arms)
    costs = students.values()
    if any(cost["projector_parameters"] or cost["training_parameters"] for cost in costs):
        out.print()
        print_line(out, "Parameters, and millions of multiply-adds of one image:")
        _print_costs(summaries.last, students)


def _print_averaged(summaries: "Sequence[ArmSummary]") -> None:
    """Print the main metric of the arms that have moving averages of their weights."""
    from rkkd_cli.report.words import quantity_of

    task = task_of(summaries[0].metrics if summaries else ())
    column = task.ema_column("test")
    averaged = [
        f"{arm.arm} {arm.metrics[column].text(2)} %" for arm in summaries if column in arm.metrics
    ]
    if averaged:
        title = quantity_of(task.main_column).title
        print_folded(out, f"{title} with moving averages of the weights: {', '.join(averaged)}")


def _print_arms(
    summaries: "Sequence[ArmSummary]", published: "Mapping[str, ComparedAccuracy] | None" = None
) -> None:
    from rkkd_cli.report.run_text import (
        PUBLISHED_COLUMNS,
        published_note,
        summary_columns,
        summary_rows,
    )

    columns = summary_columns(task_of(summaries[0].metrics if summaries else ()))
    header = ["arm", "n", "epoch", *(column.short_label for column in columns)]
    if published is not None:
        header += PUBLISHED_COLUMNS
    rows = [[cell.text for cell in row] for row in summary_rows(summaries, published)]
    further = [column.short_label for column in columns if column.digits == 2][:0:-1]
    worth_least = ("test τ-b", "test KL×T²", "test rank", *further, "epoch", "n")
    print_narrowed(header, rows, [header.index(name) for name in worth_least])
    if published is not None:
        print_folded(out, published_note(published.values()))


def _print_costs(summaries: "Sequence[ArmSummary]", students: "Mapping[str, StudentCost]") -> None:
    """Print the main metric next to parameters and multiply-adds of one image (in millions)."""
    from rkkd_cli.report.run_text import summary_columns

    main = summary_columns(task_of(summaries[0].metrics if summaries else ()))[0]
    header = ["arm", main.short_label, "parameters", "+ projector", "+ training", "MMACs",
              "projector's"]  # fmt: skip
    rows = []
    for arm in summaries:
        if arm.arm in students:
            cost = students[arm.arm]
            counts = (cost["parameters"], cost["projector_parameters"], cost["training_parameters"])
            macs = (cost["macs"], cost["projector_macs"])
            texts = [*(f"{n:,}" for n in counts), *(f"{n / 1e6:,.1f}" for n in macs)]
            rows.append([arm.arm, arm.metrics[main.metric].text(main.digits), *texts])
    print_narrowed(header, rows, [4, 6, 3, 5, 2])


def print_narrowed(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    spare: Sequence[int],
    prose: Collection[str] = (),
) -> None:
    """Print a table without the ``spare`` columns that the terminal has no room for; name them."""
    table, gone = narrowed(header, rows, spare, out, prose=prose)
    print_table(table)
    if gone:
        print_folded(out, no_room_note(gone))
