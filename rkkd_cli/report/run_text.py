"""A run as text: its dataset, its teachers, and its arms as the rows of a table."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rkkd_cli.analysis.summary import ArmSummary, MeanStd
from rkkd_cli.errors import printable


class TableCell(NamedTuple):
    """The text of a cell, and the number that its column is sorted by, if it has one."""

    text: str
    value: float | None = None


class SummaryColumn(NamedTuple):
    """A metric in the summary of arms: its label, a short one for terminals, and its digits."""

    metric: str
    label: str
    short_label: str
    digits: int


SUMMARY_COLUMNS = (
    SummaryColumn("test_acc", "test accuracy (%)", "test acc (%)", 2),
    SummaryColumn("test_kl", "test KL × T² (nats)", "test KL×T²", 3),
    SummaryColumn("test_rank", "test ranking loss", "test rank", 3),
    SummaryColumn("test_kendall_tau", "test τ-b", "test τ-b", 3),
)


def summary_rows(
    summaries: Sequence[ArmSummary], published: Mapping[str, float] | None = None
) -> list[list[TableCell]]:
    """Return for each arm its name, number of seeds, epoch and metrics as mean ± std.

    With ``published`` accuracies by arm, two cells follow: see :func:`published_cells`.
    """
    rows = []
    for arm in summaries:
        metrics = [mean_cell(arm.metrics[c.metric], c.digits) for c in SUMMARY_COLUMNS]
        name, n = TableCell(printable(arm.arm)), number_cell(arm.n, "d")
        row = [name, n, TableCell(arm.epoch_text, arm.epoch), *metrics]
        if published is not None:
            row += published_cells(arm.metrics["test_acc"].mean, published.get(arm.arm))
        rows.append(row)
    return rows


def mean_cell(value: MeanStd, digits: int) -> TableCell:
    """Return mean ± std."""
    return TableCell(value.text(digits), value.mean)


def number_cell(value: float | None, form: str) -> TableCell:
    """Return a formatted number, or an empty cell for None."""
    return TableCell("") if value is None else TableCell(format(value, form), value)


def published_cells(measured: float, published: float | None) -> list[TableCell]:
    """Return the published accuracy and measured − published, or empty cells for None."""
    difference = None if published is None else measured - published
    return [number_cell(published, ".2f"), number_cell(difference, "+.2f")]


def dataset_text(facts: Mapping[str, Any]) -> str:
    """Return a dataset's name, its numbers of images and classes, and the image shape."""
    channels, height, width = facts["image_shape"]
    val = f" + {facts['val_images']:,} validation" if facts["val_images"] else ""
    return (
        f"{facts['name']}: {facts['train_images']:,} training{val} + {facts['test_images']:,} test "
        f"images, {facts['classes']} classes, {channels}×{height}×{width}"
    )


def teacher_text(facts: Mapping[str, Any]) -> str:
    """Return a teacher's model, source, test accuracy, number of parameters and hash."""
    return (
        f"{facts['model']} ({facts['source']}): {facts['test_acc']:.2f} % test accuracy, "
        f"{facts['parameters']:,} parameters, sha256 {facts['sha256'][:16]}…"
    )
