"""Tables and lines that several commands print."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from rkkd_cli.analysis.summary import ArmSummary, RunSummaries
from rkkd_cli.cli.output.console import out, print_line, print_table
from rkkd_cli.cli.output.encoding import as_written
from rkkd_cli.errors import printable
from rkkd_cli.records.manifest import Manifest, StudentCost
from rkkd_cli.report.run_text import SUMMARY_COLUMNS, summary_rows


def early_lines(manifest: Manifest) -> list[str]:
    """Return a line for each arm with seeds that ended early."""
    by_arm: dict[str, list[str]] = {}
    for end in manifest.ended_early:
        best = f"best {end['monitor']} at epoch {end['best_epoch']}"
        seed = f"seed {end['seed']} after epoch {end['epoch']} ({best})"
        by_arm.setdefault(end["arm"], []).append(seed)
    return [f"ended early: {arm}, {', '.join(seeds)}" for arm, seeds in by_arm.items()]


def plain_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], prose: Collection[str] = ()
) -> Table:
    """Return a table whose cells are plain text, without markup.

    On a terminal only the columns of ``prose`` are folded, between words.
    """
    lines = [[cell_text(cell) for cell in row] for row in (header, *rows)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, column in zip(header, zip(*lines, strict=True), strict=True):
        width = None if name in prose else max(cell.cell_len for cell in column)
        table.add_column(column[0], min_width=width, overflow="fold")
    for line in lines[1:]:
        table.add_row(*line)
    return table


def cell_text(text: str) -> Text:
    """Return the text of a cell as stdout's encoding can show it, so that its width is known."""
    return Text(as_written(printable(text), out.encoding))


def print_summary(
    summaries: RunSummaries,
    students: Mapping[str, StudentCost],
    published: Mapping[str, float] | None = None,
) -> None:
    """Print the tables of the arms; the first one with ``published`` accuracies, if given."""
    epochs = {epoch for arm in summaries.last for epoch in arm.epochs.values()}
    of_each = " of each arm and seed (not the same one)" if len(epochs) > 1 else ""
    title = f"Last epoch{of_each}, mean ± sample standard deviation over n seeds:"
    print_line(out, title)
    print_table(_summary_table(summaries.last, published))
    for monitor, arms in summaries.selected.items():
        out.print()
        print_line(out, f"Each seed's epoch with the best {monitor}; no test image chose it:")
        print_table(_summary_table(arms))
    costs = students.values()
    if any(cost["projector_parameters"] or cost["training_parameters"] for cost in costs):
        out.print()
        print_line(out, "Parameters, and millions of multiply-adds of one image:")
        print_table(_cost_table(summaries.last, students))


def _summary_table(
    summaries: Sequence[ArmSummary], published: Mapping[str, float] | None = None
) -> Table:
    header = ["arm", "n", "epoch", *(column.short_label for column in SUMMARY_COLUMNS)]
    if published is not None:
        header += ["published (%)", "difference"]
    rows = summary_rows(summaries, published)
    return plain_table(header, ([cell.text for cell in row] for row in rows))


def _cost_table(summaries: Sequence[ArmSummary], students: Mapping[str, StudentCost]) -> Table:
    """Return accuracy next to parameters and multiply-adds of one image (in millions)."""
    accuracy = SUMMARY_COLUMNS[0]
    header = ["arm", accuracy.short_label, "parameters", "+ projector", "+ training", "MMACs",
              "projector's"]  # fmt: skip
    rows = []
    for arm in summaries:
        if arm.arm in students:
            cost = students[arm.arm]
            counts = (cost["parameters"], cost["projector_parameters"], cost["training_parameters"])
            macs = (cost["macs"], cost["projector_macs"])
            texts = [*(f"{n:,}" for n in counts), *(f"{n / 1e6:,.1f}" for n in macs)]
            rows.append([arm.arm, arm.metrics[accuracy.metric].text(accuracy.digits), *texts])
    return plain_table(header, rows)
