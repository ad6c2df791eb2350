"""The tables of a page: cells with the number that sorting goes by."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rkkd_cli.analysis.grid_tables import finished_cells, short_key, format_value
from rkkd_cli.analysis.summary import ArmSummary, MeanStd, mean_std, summarise, summarise_selected
from rkkd_cli.errors import printable
from rkkd_cli.report.arms import ArmCurve
from rkkd_cli.report.page.sources import PageGrid, PageRun

SHOWN_EPOCHS = 8
SUMMARY = (
    ("test_acc", "test accuracy (%)", 2),
    ("test_kl", "test KL × T² (nats)", 3),
    ("test_rank", "test ranking loss", 3),
    ("test_kendall_tau", "test τ-b", 3),
)

SUMMARY_HEADER = ("arm", "seeds", "epoch", *(label for _, label, _ in SUMMARY))


class Cell(NamedTuple):
    """What a cell shows, and the number that it is sorted by, if it has one."""

    text: str
    value: float | None = None


class Table(NamedTuple):
    """``header`` and ``rows`` alike begin with the name of the row."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def cell(value: MeanStd, digits: int) -> Cell:
    """Return mean ± spread."""
    return Cell(value.text(digits), value.mean)


def number(value: float | None, form: str) -> Cell:
    """Return a number, or an empty cell."""
    return Cell("") if value is None else Cell(format(value, form), value)


def summary_table(run: PageRun) -> Table:
    """Return each arm at its last epoch, with published accuracies where there are some."""
    header, rows = list(SUMMARY_HEADER), []
    early = _ended_early(run)
    for one in summarise(run.metrics, early):
        row = _summary_row(one)
        if run.published:
            stated = run.published.get(one.arm)
            measured = one.metrics["test_acc"].mean
            difference = None if stated is None else measured - stated
            row += [number(stated, ".2f"), number(difference, "+.2f")]
        rows.append(row)
    if run.published:
        header += ["published accuracy (%)", "measured − published"]
    of = "seed" if early else "arm"
    caption = (
        f"{run.name}: each {of} at its last epoch, mean ± sample standard deviation over seeds"
    )
    return Table(printable(caption), header, rows)


def selected_tables(run: PageRun) -> list[Table]:
    """Return for each monitored metric the arms that it watches, each seed at its best epoch."""
    summaries = summarise_selected(run.metrics, run.manifest.monitors, _ended_early(run))
    rows: dict[str, list[Sequence[Cell]]] = {}
    for one in summaries:
        rows.setdefault(run.manifest.monitors[one.arm], []).append(_summary_row(one))
    caption = "{}: each seed at its epoch with the best {}; no test image chose it"
    return [
        Table(printable(caption.format(run.name, monitor)), SUMMARY_HEADER, of_monitor)
        for monitor, of_monitor in rows.items()
    ]


def _ended_early(run: PageRun) -> set[tuple[str, int]]:
    return {(one["arm"], one["seed"]) for one in run.manifest.ended_early}


def _summary_row(one: ArmSummary) -> list[Cell]:
    row = [Cell(printable(one.arm)), number(one.n, "d"), Cell(one.epoch_text, one.epoch)]
    return [*row, *(cell(one.metrics[key], digits) for key, _, digits in SUMMARY)]


def curve_table(
    columns: Mapping[str, str | None], title: str, curves: Sequence[ArmCurve], digits: int
) -> Table:
    """Return the numbers of a figure at a few epochs: the first, the last, and evenly between.

    ``columns`` of metrics.csv have the term that tells their rows apart, if there are several.
    """
    epochs = sorted({int(epoch) for curve in curves for epoch in curve.rows["epoch"].unique()})
    step = max(1, -(-(len(epochs) - 1) // (SHOWN_EPOCHS - 1)))
    shown = sorted({*epochs[::step], epochs[-1]})
    rows = []
    for curve in curves:
        for column, term in columns.items():
            if column in curve.rows:
                label = curve.label if term is None else f"{curve.label}, gradient of {term}"
                rows.append([Cell(label), *_at(curve, column, shown, digits)])
    caption = f"{title} at some epochs, mean ± sample standard deviation over seeds"
    return Table(caption, ["arm", *(f"epoch {epoch}" for epoch in shown)], rows)


def _at(curve: ArmCurve, column: str, epochs: Sequence[int], digits: int) -> Iterator[Cell]:
    by_epoch = dict(list(curve.rows.groupby("epoch")[column]))
    for epoch in epochs:
        values = by_epoch[epoch].dropna() if epoch in by_epoch else None
        yield Cell("") if values is None or values.empty else cell(mean_std(values), digits)


def cells_table(grid: PageGrid, name: str) -> Table:
    """Return all finished cells of a grid, in long form: keys, accuracy, what is published."""
    picture = grid.picture
    keys = list(picture.keys)
    stated = {
        tuple(dict(zip(keys[:2], place, strict=False), **table.facet)[key] for key in keys): value
        for table in picture.tables
        for place, value in table.published.items()
    }
    rows = []
    for values, part in finished_cells(picture.frame).groupby(keys, sort=False):
        one = mean_std(part[picture.selection.column])
        row = [_key(value) for value in values]
        row += [number(one.n, "d"), cell(one, 2)]
        if stated:
            theirs = stated.get(values)
            difference = None if theirs is None else one.mean - theirs
            row += [number(theirs, ".2f"), number(difference, "+.2f")]
        rows.append(row)
    header = [*(printable(short_key(key, keys)) for key in keys), "seeds", "test accuracy (%)"]
    header += ["published (%)", "measured − published"] * bool(stated)
    return Table(printable(f"{name}: all finished cells, {picture.selection.told}"), header, rows)


def _key(value: object) -> Cell:
    text = printable(format_value(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(text, None)
    return Cell(text, float(value))
