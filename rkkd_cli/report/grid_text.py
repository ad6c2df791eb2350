"""A grid as text: its tables, and the sentences below them."""

from collections.abc import Sequence

import pandas as pd

from rkkd_cli.analysis.grid_run import GridRecord
from rkkd_cli.analysis.grid_tables import (
    ROUNDING,
    CellKey,
    GridTable,
    format_value,
    is_as_good,
    seeds_text,
    short_key,
)
from rkkd_cli.analysis.published import ComparedAccuracy, PublishedAccuracy
from rkkd_cli.analysis.summary import MeanStd
from rkkd_cli.config.grid import is_baseline
from rkkd_cli.config.tasks import CLASSIFICATION
from rkkd_cli.records.manifest import TeacherFacts, teacher_metric, teacher_name
from rkkd_cli.report.run_text import MAIN_COLUMNS, NOT_STATED, published_note
from rkkd_cli.report.text_tables import BEST_MARK, TextCell, TextTable
from rkkd_cli.report.words import capitalised, quantity_of, short_name

DIGITS = 2


def lay_out(table: GridTable, *, metric: str = CLASSIFICATION.main_column) -> TextTable:
    """Return the table as text: mean ± std, with the published value and the difference."""
    names = [short_key(key, table.keys) for key in table.keys]
    corner = names[0] if table.columns == (None,) else f"{names[0]} \\ {names[1]}"
    only = f"{short_name(metric)} (%)"  # the heading of a grid of one key
    header = [corner, *(only if c is None else format_value(c) for c in table.columns)]
    best, best_of_columns = table.best, table.best_of_columns

    def text_cell(cell: CellKey) -> TextCell:
        if cell not in table.cells:
            return TextCell("–")
        accuracy = table.cells[cell]
        text = accuracy.text(DIGITS) + published_beside(accuracy, table.published.get(cell))
        return TextCell(text, cell in best_of_columns, cell in best)

    rows = [
        [TextCell(format_value(row)), *(text_cell((row, column)) for column in table.columns)]
        for row in table.rows
    ]
    return TextTable(facet_title(table), header, rows)


def published_beside(accuracy: MeanStd, compared: ComparedAccuracy | None, name: str = "") -> str:
    """Return the published accuracy, after its ``name``, and the difference; or nothing.

    They begin with ours of the epoch that was published where that is another than the table's.
    """
    if compared is None or compared.measured is None:
        return ""
    stated, measured = compared.published, compared.measured
    is_other = abs(measured.mean - accuracy.mean) > ROUNDING
    ours = f"{stated.select or 'measured'} {measured.mean:.{DIGITS}f}; " if is_other else ""
    return f" ({ours}{name}{stated.acc:.{DIGITS}f}, {compared.difference:+.{DIGITS}f})"


def published_epoch(table: GridTable) -> str:
    """Return which epoch a table's published accuracies, and ours beside them, are of."""
    meanings = {
        "best": "best epoch, chosen on the test images",
        "last": "last epoch",
        "": f"epoch {NOT_STATED}",
    }
    stated = [compared.published for compared in table.published.values()]
    selects = {one.select for one in stated}
    epochs = " or ".join(text for select, text in meanings.items() if select in selects)
    others = dict.fromkeys(one.metric for one in stated if one.metric not in MAIN_COLUMNS)
    return ", ".join([*(quantity_of(metric).name for metric in others), epochs])


def facet_title(table: GridTable) -> str:
    """Return the values of the third and further keys, or an empty string."""
    return ", ".join(
        f"{short_key(key, table.keys)} = {format_value(value)}"
        for key, value in table.facet.items()
    )


def grid_notes(grid: GridRecord, best_of_column: str | None = None) -> list[str]:
    """Return the sentences below the tables: what they show, then :func:`reference_notes`.

    ``best_of_column`` says how the best of each column looks: nothing, if it looks like the others.
    Without it (None) the best of all is not marked either.
    """
    tables = grid.tables
    seeds = seeds_text([accuracy.n for table in tables for accuracy in table.cells.values()])
    spread = seeds if seeds == "one seed" else f"mean ± sample standard deviation of {seeds}"
    title = quantity_of(grid.selection.metric).title
    notes = [f"{title} in percent, {grid.selection.description}, {spread}."]
    if best_of_column is not None and tables:
        notes[0] += f" {_best_note(tables, best_of_column)}"
    if grid.published and all(map(is_baseline, grid.published)):
        notes.append(f"Nothing is published of {grid.unpublished}.")
    elif grid.published:
        selects = {compared.published.select for compared in grid.published.values()}
        others = [s for s in selects if s and s != grid.selection.name]
        ours = "measured at the epoch that is published, then " if others else ""
        notes.append(f"In brackets: {ours}the published value, and measured − published.")
    return [*notes, *reference_notes(grid)]


def _best_note(tables: Sequence[GridTable], best_of_column: str) -> str:
    of_all = "of all" if len(tables) == 1 else "of each table"
    best = f"the best {of_all} is marked {BEST_MARK}"
    if (shared := max(len(table.best) for table in tables)) > 1:
        best += f", which up to {shared} cells share"
        if len(tables) == 1:
            best = f"{shared} cells share the best mean and are marked {BEST_MARK}"
    if best_of_column:
        return f"The best of each column is {best_of_column}, {best}."
    return f"{capitalised(best)}."


def reference_notes(grid: GridRecord) -> list[str]:
    """Return a sentence for each baseline and teacher, and for cells that are missing."""
    notes = []
    if grid.published:
        notes.append(published_note(grid.published.values(), grid.selection.description))
    best = max((one.mean for table in grid.tables for one in table.cells.values()), default=None)
    for arm, accuracy in grid.baselines.items():
        beside = published_beside(accuracy, grid.published.get(arm), "published ")
        text = f"{accuracy.text(DIGITS)} %{beside}{_above(accuracy.mean, best)}"
        notes.append(f"{arm} (the student without distillation): {text}")
    for teacher in grid.manifest.teachers:
        beside = _published_teacher(teacher, grid.published_teachers.get(teacher["model"]))
        level = f"{teacher_metric(teacher):.{DIGITS}f} %"
        notes.append(f"teacher {teacher_name(teacher)}: {level}{beside}")
    if grid.manifest.ended_early:
        count = len(grid.manifest.ended_early)
        notes.append(f"{count} cells ended early: grid.csv has the last epoch of each")
    missing = grid.frame["status"].value_counts().drop("done", errors="ignore")
    return [*notes, *(f"{count} cells are {status}" for status, count in missing.items())]


def _published_teacher(teacher: TeacherFacts, stated: PublishedAccuracy | None) -> str:
    """Return what is published of a teacher, after ours of the same metric if it is another."""
    if stated is None:
        return ""
    ours = ""
    if stated.metric not in MAIN_COLUMNS:
        level = teacher_metric(teacher, stated.metric)
        ours = f"{quantity_of(stated.metric).name} {level:.{DIGITS}f} %, "
    epoch = f", {stated.select} epoch" if stated.select else ""
    return f" ({ours}published {stated.acc:.{DIGITS}f} %{epoch})"


def _above(baseline: float, best: float | None) -> str:
    if best is None or not is_as_good(baseline, best):
        return ""
    return ", as good as the best cell" if is_as_good(best, baseline) else ", above every cell"


def long_csv(tables: Sequence[GridTable]) -> str:
    """Return the rows of :func:`long_frame` as CSV."""
    return long_frame(tables).to_csv(index=False, lineterminator="\n")


def long_frame(tables: Sequence[GridTable]) -> pd.DataFrame:
    """Return a row per cell: its keys, mean and std, the published value and ours beside it."""
    rows = []
    for table in tables:
        for cell, accuracy in table.cells.items():
            values = [*cell[: len(table.keys[:2])], *table.facet.values()]
            spread = [accuracy.mean, accuracy.std, accuracy.n]
            rows.append([*values, *spread, *_published_values(table.published.get(cell))])
    keys = tables[0].keys if tables else ()
    header = [*keys, "mean", "std", "n", "published", "select", "measured", "difference"]
    return pd.DataFrame(rows, columns=header, dtype=object)


def _published_values(compared: ComparedAccuracy | None) -> list[object]:
    if compared is None:
        return [None] * 4
    stated, measured = compared
    mean = None if measured is None else measured.mean
    return [stated.acc, stated.select or None, mean, compared.difference]
