"""Tables and lines that several commands print."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rkkd_cli.analysis.summary import ArmSummary, RunSummaries
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


def plain_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table whose cells are plain text, without markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(header):
        table.add_column(name, overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def print_summary(
    console: Console,
    summaries: RunSummaries,
    students: Mapping[str, StudentCost],
    published: Mapping[str, float] | None = None,
) -> None:
    """Print the tables of the arms; the first one with ``published`` accuracies, if given."""
    epochs = {epoch for arm in summaries.last for epoch in arm.epochs.values()}
    of_each = " of each arm and seed (not the same one)" if len(epochs) > 1 else ""
    title = f"Last epoch{of_each}, mean ± sample standard deviation over n seeds:"
    console.print(title, soft_wrap=True)
    console.print(_summary_table(summaries.last, published))
    for monitor, arms in summaries.selected.items():
        title = f"\nEach seed's epoch with the best {monitor}; no test image chose it:"
        console.print(title, soft_wrap=True)
        console.print(_summary_table(arms))
    costs = students.values()
    if any(cost["projector_parameters"] or cost["training_parameters"] for cost in costs):
        console.print("\nParameters, and millions of multiply-adds of one image:")
        console.print(_cost_table(summaries.last, students))


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
