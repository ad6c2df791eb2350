"""The tables of a page."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

from rkkd_cli.analysis.grid_tables import finished_cells, format_value, short_key
from rkkd_cli.analysis.numbers import format_number
from rkkd_cli.analysis.summary import mean_std, summarise_run
from rkkd_cli.errors import printable
from rkkd_cli.report.arms import ArmCurve
from rkkd_cli.report.gradients import TERM_NAMES
from rkkd_cli.report.page.sources import PageGrid, PageRun
from rkkd_cli.report.picture import CurvePicture
from rkkd_cli.report.retrieval_picture import RetrievalPicture
from rkkd_cli.report.run_text import (
    PUBLISHED_COLUMNS,
    TableCell,
    mean_cell,
    number_cell,
    published_cells,
    summary_columns,
    summary_rows,
)

SHOWN_EPOCHS = 8
MEAN_STD = "mean ± sample standard deviation over seeds"


class PageTable(NamedTuple):
    """A table that can be sorted; the first cell of the header and of each row names the row."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[TableCell]]


def summary_tables(run: PageRun) -> list[PageTable]:
    """Return a table of each arm at its last epoch, with published accuracies if there are any.

    For each monitored metric one more has the arms that it selects, each seed at its best epoch.
    """
    summaries = summarise_run(run.metrics, run.manifest)
    each = "seed" if run.manifest.ended_early else "arm"
    caption = f"{run.name}: each {each} at its last epoch, {MEAN_STD}"
    labels = [column.label for column in summary_columns(run.experiment.task_records)]
    header = ["arm", "seeds", "epoch", *labels]
    with_published = header + list(PUBLISHED_COLUMNS) * bool(run.published)
    rows = summary_rows(summaries.last, run.published or None)
    tables = [PageTable(printable(caption), with_published, rows)]
    for monitor, arms in summaries.selected.items():
        caption = (
            f"{run.name}: each seed at its epoch with the best {monitor}; no test image chose it"
        )
        tables.append(PageTable(printable(caption), header, summary_rows(arms)))
    return tables


def curve_table(
    columns: Mapping[str, str | None], title: str, curves: Sequence[ArmCurve], digits: int
) -> PageTable:
    """Return the numbers of a figure at a few epochs: the first, the last, and evenly between.

    ``columns`` of metrics.csv have the term that tells their rows apart, if there are several.
    """
    shown, rows = _few_epochs(curves), []
    for curve in curves:
        for column, term in columns.items():
            if column in curve.rows:
                label = curve.label if term is None else f"{curve.label}, {TERM_NAMES[term]}"
                rows.append([TableCell(label), *_cells_at(curve, column, shown, digits)])
    caption = f"{title} at some epochs, {MEAN_STD}"
    return PageTable(caption, ["arm", *(f"epoch {epoch}" for epoch in shown)], rows)


def difference_table(title: str, picture: CurvePicture, column: str) -> PageTable:
    """Return the paired differences of a figure at a few epochs, with their 95 % intervals."""
    shown = _few_epochs(picture.curves)
    rows = []
    for difference in picture.differences_of(column):
        by_epoch = difference.interval(column).to_dict("index")
        cells = [_difference_cell(by_epoch.get(epoch)) for epoch in shown]
        rows.append([TableCell(difference.label), *cells])
    spread = picture.why_no_interval(column) or "mean over seeds and 95 % interval"
    caption = f"{title}: differences at some epochs, {spread}"
    return PageTable(caption, ["difference of", *(f"epoch {epoch}" for epoch in shown)], rows)


def _difference_cell(row: Mapping[Hashable, float] | None) -> TableCell:
    if row is None:
        return TableCell("")
    text = format_number(row["mean"], sign=True)
    if not math.isnan(row["low"]):
        text += f" ({format_number(row['low'])} to {format_number(row['high'])})"
    return TableCell(text, row["mean"])


def _few_epochs(curves: Sequence[ArmCurve]) -> list[int]:
    epochs = sorted({int(epoch) for curve in curves for epoch in curve.means.index})
    step = max(1, -(-(len(epochs) - 1) // (SHOWN_EPOCHS - 1)))
    return sorted({*epochs[::step], epochs[-1]})


def _cells_at(
    curve: ArmCurve, column: str, epochs: Sequence[int], digits: int
) -> Iterator[TableCell]:
    for epoch in epochs:
        values = curve.rows.loc[curve.rows["epoch"] == epoch, column].dropna()
        yield mean_cell(mean_std(values), digits) if len(values) else TableCell("")


def cells_table(grid: PageGrid, name: str) -> PageTable:
    """Return all finished cells of a grid, a row each: keys, accuracy, and what is published."""
    picture = grid.picture
    keys = list(picture.keys)
    published = {
        tuple(dict(zip(keys[:2], cell, strict=False), **table.facet)[key] for key in keys): value
        for table in picture.tables
        for cell, value in table.published.items()
    }
    rows = []
    for values, seeds in finished_cells(picture.frame).groupby(keys, sort=False):
        accuracy = mean_std(seeds[picture.selection.column])
        row = [_value_cell(value) for value in values]
        row += [number_cell(accuracy.n, "d"), mean_cell(accuracy, 2)]
        if published:
            row += published_cells(published.get(values))
        rows.append(row)
    header = [*(printable(short_key(key, keys)) for key in keys), "seeds", picture.metric.label]
    header += PUBLISHED_COLUMNS * bool(published)
    caption = printable(f"{name}: all finished cells, {picture.selection.description}")
    return PageTable(caption, header, rows)


def _value_cell(value: object) -> TableCell:
    text = printable(format_value(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return TableCell(text)
    return TableCell(text, float(value))


def retrieval_table(picture: RetrievalPicture) -> PageTable:
    """Return how many of its neighbours are of a query's class, for each arm and query."""
    queries = picture.queries
    labels = dict.fromkeys(found.label for query in queries for found in query.found)
    counts = [
        {found.label: (int(found.right.sum()), len(found.right)) for found in query.found}
        for query in queries
    ]
    rows = [
        [TableCell(label), *(_share_cell(*of_query.get(label, (0, 0))) for of_query in counts)]
        for label in labels
    ]
    caption = "Neighbours of the query's class, for each query"
    return PageTable(caption, ("arm", *(query.name for query in queries)), rows)


def _share_cell(count: int, of: int) -> TableCell:
    return TableCell(f"{count} of {of}", count) if of else TableCell("")
