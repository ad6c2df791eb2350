"""A run as text: its dataset, its teachers, and its arms as the rows of a table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rkkd_cli.config.dataset import AUGMENTATION_KEYS
from rkkd_cli.config.tasks import TASKS, TaskRecords, task_of
from rkkd_cli.config.value_lists import value_text
from rkkd_cli.errors import printable
from rkkd_cli.records.manifest import teacher_metric
from rkkd_cli.report.words import quantity_of, short_name

if TYPE_CHECKING:
    from rkkd_cli.analysis.published import ComparedAccuracy
    from rkkd_cli.analysis.record import RunRecord
    from rkkd_cli.analysis.summary import ArmSummary, MeanStd


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


NOT_STATED = "not stated"
PUBLISHED_COLUMNS = ("select", "measured (%)", "published (%)", "difference")
MAIN_COLUMNS = [task.main_column for task in TASKS.values()]
UNFINISHED = {"dead": ", its process has died", "running": ", still running", "finished": ""}
MAX_ARMS_LISTED = 6
RESUME_ADVICE = {
    "dead": "its process has gone; `rkkd resume {}` continues it",
    "interrupted": "`rkkd resume {}` continues it",
    "failed": "`rkkd resume {}` continues it",
}

SHARED_COLUMNS = (
    SummaryColumn("test_kl", "test KL × T² (nats)", "test KL×T²", 3),
    SummaryColumn("test_rank", "test ranking loss", "test rank", 3),
    SummaryColumn("test_kendall_tau", "test τ-b", "test τ-b", 3),
)


def summary_columns(task: TaskRecords) -> list[SummaryColumn]:
    """Return the columns in the summary of arms; that of the main metric is the first."""
    shown = [f"test_{metric}" for metric in task.shown]
    own = [SummaryColumn(c, quantity_of(c).label, f"{short_name(c)} (%)", 2) for c in shown]
    return [*own, *SHARED_COLUMNS]


def summary_rows(
    summaries: "Sequence[ArmSummary]", published: "Mapping[str, ComparedAccuracy] | None" = None
) -> list[list[TableCell]]:
    """Return for each arm its name, number of seeds, epoch and metrics as mean ± std.

    With ``published`` accuracies by arm, the ``PUBLISHED_COLUMNS`` follow.
    """
    rows = []
    for arm in summaries:
        columns = summary_columns(task_of(arm.metrics))
        metrics = [mean_cell(arm.metrics[c.metric], c.digits) for c in columns]
        name, n = TableCell(printable(arm.arm)), number_cell(arm.n, "d")
        row = [name, n, TableCell(arm.epoch_text, arm.epoch), *metrics]
        if published is not None:
            row += published_cells(published.get(arm.arm))
        rows.append(row)
    return rows


def mean_cell(value: "MeanStd", digits: int) -> TableCell:
    """Return mean ± std."""
    return TableCell(value.text(digits), value.mean)


def number_cell(value: float | None, form: str) -> TableCell:
    """Return a formatted number, or an empty cell for None."""
    return TableCell("") if value is None else TableCell(format(value, form), value)


def published_cells(compared: "ComparedAccuracy | None") -> list[TableCell]:
    """Return the cells of the ``PUBLISHED_COLUMNS``, empty ones for None."""
    if compared is None:
        return [TableCell("") for _ in PUBLISHED_COLUMNS]
    stated, measured = compared
    return [
        TableCell(stated.select or NOT_STATED),
        TableCell("") if measured is None else mean_cell(measured, 2),
        number_cell(stated.acc, ".2f"),
        number_cell(compared.difference, "+.2f"),
    ]


def published_json(compared: "ComparedAccuracy | None") -> dict[str, Any]:
    """Return a published accuracy and the measured one beside it as plain objects."""
    if compared is None:
        return dict.fromkeys(("published", "select", "measured"))
    stated, measured = compared
    beside = {"mean": measured.mean, "std": measured.std} if measured else None
    return {"published": stated.acc, "select": stated.select or None, "measured": beside}


def published_note(published: "Iterable[ComparedAccuracy]", unstated: str = "last epoch") -> str:
    """Return a sentence for each kind of epoch that published and measured accuracies are of.

    ``unstated`` describes the epoch of ours where the source does not state that of the published.
    """
    meanings = {
        "best": "Best: published and measured at the best epoch, which is chosen on the test "
        "images and flatters both.",
        "last": "Last: published and measured at the last epoch.",
        "": f"Not stated: the source does not say at which epoch; measured at the {unstated}.",
    }
    stated = [compared.published for compared in published]
    selects = {one.select for one in stated}
    texts = [text for select, text in meanings.items() if select in selects]
    others = {one.metric: None for one in stated if one.metric not in MAIN_COLUMNS}
    texts += [f"Published and beside it: {quantity_of(metric).label}." for metric in others]
    return " ".join(texts)


def unfinished_texts(runs: "Sequence[RunRecord]") -> list[str]:
    """Return the banners of the runs that lack seeds, with the runs' names if there are several."""
    texts = [(run.name, text) for run in runs if (text := unfinished_text(run))]
    return [f"{printable(name)}: {text}" if len(runs) > 1 else text for name, text in texts]


def unfinished_text(run: "RunRecord") -> str | None:
    """Return the banner of a run that lacks seeds, with each that is missing, or None.

    A seed of an arm is there if it has reached its last epoch or ended early.
    """
    missing, planned = _missing_seeds(run), len(set(run.experiment.seeds))
    lacking = {arm: seeds for arm, seeds in missing.items() if seeds}
    if not lacking:
        return None
    counts = [planned - len(seeds) for seeds in missing.values()]
    if len({tuple(seeds) for seeds in missing.values()}) == 1:
        there, seeds = f"{counts[0]} of {planned} seeds", missing.popitem()[1]
        listed = f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"
    else:
        there = f"{sum(counts)} of {planned * len(missing)} arms and seeds"
        listed = "; ".join(f"{arm}, seed {', '.join(seeds)}" for arm, seeds in lacking.items())
        if len(lacking) > MAX_ARMS_LISTED:
            listed = f"seeds of {len(lacking)} of {len(missing)} arms"
    there = there.replace("of 1 seeds", "of 1 seed")
    ending = UNFINISHED.get(run.status, f", {run.status}")
    return printable(f"Not finished: {there}{ending}. Missing: {listed}.")


def _missing_seeds(run: "RunRecord") -> dict[str, list[str]]:
    """Return the seeds that each arm lacks, with their epochs if they have begun."""
    from rkkd_cli.analysis.summary import last_epochs  # imports pandas, which most texts do without

    epochs, early = last_epochs(run.metrics), run.manifest.cells_ended_early
    missing: dict[str, list[str]] = {}
    for arm, experiment in run.by_arm.items():
        total, missing[arm] = experiment.training.epochs, []
        for seed in dict.fromkeys(run.experiment.seeds):
            epoch = epochs.get((arm, seed), 0)
            if epoch < total and (arm, seed) not in early:
                missing[arm].append(f"{seed} (at epoch {epoch} of {total})" if epoch else f"{seed}")
    return missing


def dataset_text(facts: Mapping[str, Any]) -> str:
    """Return a dataset's name, its numbers of images and classes, and the image shape."""
    val = f" + {facts['val_images']:,} validation" if facts["val_images"] else ""
    return (
        f"{facts['name']}: {facts['train_images']:,} training{val} + {facts['test_images']:,} test "
        f"images, {facts['classes']} classes, {image_text(facts)}{augmentation_text(facts)}"
    )


def image_text(facts: Mapping[str, Any]) -> str:
    """Return the shape of a dataset's images; of detection, what their shorter side is."""
    if "image_shape" in facts:
        return "×".join(map(str, facts["image_shape"]))
    return min_size_text(facts["min_size"], facts["max_size"])


def min_size_text(sides: Sequence[int], longest: int) -> str:
    """Return how large images for detection are."""
    if not sides:
        return "images as they are"
    shorter = f"{sides[0]} to {sides[-1]}" if len(sides) > 1 else f"{sides[0]}"
    return f"shorter side {shorter}, at most {longest:,}"


def augmentation_text(facts: Mapping[str, Any]) -> str:
    """Return ``, auto_augment rand, mixup_alpha 0.2`` of facts that have such settings."""
    used = [key for key in AUGMENTATION_KEYS if key in facts]
    return "".join(f", {key} {value_text(facts[key])}" for key in used)


def teacher_text(facts: Mapping[str, Any]) -> str:
    """Return a teacher's name, model, source, main metric, number of parameters and hash."""
    name = facts.get("name", facts["model"])
    model = "" if name == facts["model"] else f", {facts['model']}"
    metric = quantity_of(task_of(facts).main_column).name
    return (
        f"{name}{model} ({facts['source']}): {teacher_metric(facts):.2f} % {metric}, "
        f"{facts['parameters']:,} parameters, sha256 {facts['sha256'][:16]}…{begins_text(facts)}"
    )


def begins_text(facts: Mapping[str, Any]) -> str:
    """Return the first weights of a model and the images it takes, where the manifest has them."""
    text = ""
    if weights := facts.get("weights"):
        note = f" ({weights['note']})" if "note" in weights else ""
        text += f", from {weights['name']}{note}"
    if images := facts.get("input"):
        height, width = images["image_size"]
        mean, std = (", ".join(f"{x:.4g}" for x in images[key]) for key in ("mean", "std"))
        text += f", on images of {height}×{width}, mean {mean}, std {std}"
    return text
