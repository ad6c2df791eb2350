"""Tables and lines that several commands print alike."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rkkd_cli.analysis.summary import ArmSummary, summarise, summarise_selected
from rkkd_cli.errors import printable
from rkkd_cli.records.manifest import Manifest, StudentCost

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = (
    ("test_acc", "test acc (%)", 2),
    ("test_kl", "test KL×T²", 3),
    ("test_rank", "test rank", 3),
    ("test_kendall_tau", "test τ-b", 3),
)


class Summaries(NamedTuple):
    """The arms at their last epochs, and by monitored metric at those that it selects."""

    last: list[ArmSummary]
    selected: dict[str, list[ArmSummary]]

    def as_json(self, published: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Return them as plain objects; ``selected`` only where anything is."""
        content: dict[str, Any] = {"summary": summary_json(self.last, published)}
        if self.selected:
            chosen = {monitor: summary_json(some) for monitor, some in self.selected.items()}
            content["selected"] = chosen
        return content


def summaries_of(metrics: "DataFrame", manifest: Manifest) -> Summaries:
    """Return the summaries of a run."""
    early = {(one["arm"], one["seed"]) for one in manifest.ended_early}
    selected: dict[str, list[ArmSummary]] = {}
    for one in summarise_selected(metrics, manifest.monitors, early):
        selected.setdefault(manifest.monitors[one.arm], []).append(one)
    return Summaries(summarise(metrics, early), selected)


def early_lines(manifest: Manifest) -> list[str]:
    """Return a line for each arm of which seeds ended early."""
    by_arm: dict[str, list[str]] = {}
    for one in manifest.ended_early:
        text = f"seed {one['seed']} after epoch {one['epoch']} (best {one['monitor']} at epoch "
        by_arm.setdefault(one["arm"], []).append(f"{text}{one['best_epoch']})")
    return [f"ended early: {arm}, {', '.join(seeds)}" for arm, seeds in by_arm.items()]


def plain_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table whose cells are plain text, never markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(header):
        table.add_column(name, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def summary_table(
    summaries: Sequence[ArmSummary], published: Mapping[str, float] | None = None
) -> Table:
    """Return the arms at their epochs: mean ± sample standard deviation over n seeds.

    With ``published`` accuracies by arm, those and measured − published stand behind.
    """
    header = ["arm", "n", "epoch", *(label for _, label, _ in COLUMNS)]
    rows = [
        [s.arm, str(s.n), s.epoch_text, *(s.metrics[key].text(d) for key, _, d in COLUMNS)]
        for s in summaries
    ]
    if published is None:
        return plain_table(header, rows)
    stated = [_beside(s.metrics["test_acc"].mean, published.get(s.arm)) for s in summaries]
    rows = [[*row, *more] for row, more in zip(rows, stated, strict=True)]
    return plain_table([*header, "published (%)", "difference"], rows)


def _beside(measured: float, stated: float | None) -> list[str]:
    return ["", ""] if stated is None else [f"{stated:.2f}", f"{measured - stated:+.2f}"]


def cost_table(
    summaries: Sequence[ArmSummary], students: Mapping[str, StudentCost]
) -> Table | None:
    """Return accuracy beside parameters and multiply-adds of one image (in millions).

    Only where any arm's student has a projector, or parts for the training alone.
    """
    costs = students.values()
    if not any(one["projector_parameters"] or one["training_parameters"] for one in costs):
        return None
    _, label, digits = COLUMNS[0]
    header = ["arm", label, "parameters", "+ projector", "+ training", "MMACs", "projector's"]
    rows = [
        [one.arm, one.metrics["test_acc"].text(digits), *_cost(students[one.arm])]
        for one in summaries
        if one.arm in students
    ]
    return plain_table(header, rows)


def _cost(cost: StudentCost) -> list[str]:
    counts = (cost["parameters"], cost["projector_parameters"], cost["training_parameters"])
    millions = (cost["macs"] / 1e6, cost["projector_macs"] / 1e6)
    return [*(f"{count:,}" for count in counts), *(f"{one:,.1f}" for one in millions)]


def print_summary(
    console: Console,
    summaries: Summaries,
    students: Mapping[str, StudentCost],
    published: Mapping[str, float] | None = None,
) -> None:
    """Print the tables, in the first also the ``published`` accuracies, where given."""
    differ = len({epoch for one in summaries.last for epoch in one.epochs.values()}) > 1
    which = "Last epoch of each arm and seed (not the same one)" if differ else "Last epoch"
    title = f"{which}, mean ± sample standard deviation over n seeds:"
    console.print(title, soft_wrap=True)
    console.print(summary_table(summaries.last, published))
    for monitor, selected in summaries.selected.items():
        title = f"\nEach seed's epoch with the best {monitor}; no test image chose it:"
        console.print(title, soft_wrap=True)
        console.print(summary_table(selected))
    costs = cost_table(summaries.last, students)
    if costs is not None:
        console.print("\nParameters, and millions of multiply-adds of one image:")
        console.print(costs)


def summary_json(
    summaries: Sequence[ArmSummary], published: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Return the same as plain objects."""
    return [
        {"arm": s.arm, "n": s.n, "epoch": s.epoch, "epochs": s.epochs}
        | {key: {"mean": v.mean, "std": v.std} for key, v in s.metrics.items()}
        | ({} if published is None else {"published": published.get(s.arm)})
        for s in summaries
    ]


def teacher_line(facts: Mapping[str, Any]) -> str:
    """Return one line about a teacher."""
    return (
        f"teacher {facts['model']} ({facts['source']}): {facts['test_acc']:.2f} % test accuracy, "
        f"{facts['parameters']:,} parameters, sha256 {facts['sha256'][:16]}…"
    )


def dataset_line(facts: Mapping[str, Any]) -> str:
    """Return one line about a dataset."""
    channels, height, width = facts["image_shape"]
    val = f" + {facts['val_images']:,} validation" if facts["val_images"] else ""
    return (
        f"dataset {facts['name']}: {facts['train_images']:,} training{val} + "
        f"{facts['test_images']:,} test images, {facts['classes']} classes, "
        f"{channels}×{height}×{width}"
    )
