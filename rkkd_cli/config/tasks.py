"""What a task records: its hard term and its metrics, which are columns of metrics.csv."""

from collections.abc import Iterable
from dataclasses import dataclass

RECALLS = (1, 2, 4, 8)
RECALL_NAMES = {f"recall_at_{count}": f"Recall@{count}" for count in RECALLS}
# The metrics of held-out splits in words; all are in percent.
METRIC_NAMES = {
    "acc": "accuracy",
    "top5": "top-5 accuracy",
    "map_at_r": "MAP@R",
    "r_precision": "R-precision",
    **RECALL_NAMES,
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP of small objects",
    "ap_medium": "AP of medium objects",
    "ap_large": "AP of large objects",
    "ar": "AR with 100 detections an image",
}
# Where there is little room, such as in the heading of a column.
SHORT_NAMES = METRIC_NAMES | {
    "acc": "acc",
    "ap_small": "AP small",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
    "ar": "AR",
}


@dataclass(frozen=True)
class TaskRecords:
    """The columns that depend on the task.

    ``hard_term`` is the term of the labels alone, in training and on held-out splits.
    ``training``: the shares of images, in percent, that are counted in training.
    ``held_out``: the metrics of a held-out split, in percent, more is better; the first of them is
    the main one, by which epochs, arms and cells are compared. ``shown``: those that tables and
    comparisons have. ``curves``: the columns that are drawn against the epoch. ``may_be_missing``:
    those of ``held_out`` that a split may not have, and whose cells then are empty.
    """

    name: str
    hard_term: str
    training: tuple[str, ...]
    held_out: tuple[str, ...]
    shown: tuple[str, ...]
    curves: tuple[str, ...]
    may_be_missing: tuple[str, ...] = ()

    @property
    def main(self) -> str:
        """The metric that counts, without its split."""
        return self.held_out[0]

    @property
    def main_name(self) -> str:
        """The metric that counts, in words."""
        return METRIC_NAMES[self.main]

    @property
    def value_prefix(self) -> str:
        """What stands before a value of it in percent: ``MAP@R ``; an accuracy needs no name."""
        return "" if self.main == "acc" else f"{self.main_name} "

    @property
    def main_column(self) -> str:
        """Its column for the test images."""
        return f"test_{self.main}"

    @property
    def default_monitor(self) -> str:
        """Its column for the validation images."""
        return f"val_{self.main}"

    @property
    def shared_terms(self) -> tuple[str, ...]:
        """The terms that every arm records."""
        return (self.hard_term, "kl", "rank")

    @property
    def training_columns(self) -> tuple[str, ...]:
        """The columns of the training images: terms, τ-b and counts."""
        return (*self.shared_terms, "kendall_tau", *self.training)

    def split_columns(self, split: str) -> tuple[str, ...]:
        """Return the columns of a held-out split, ``test`` or ``val``."""
        names = (*self.held_out, *self.shared_terms, "kendall_tau")
        return tuple(f"{split}_{name}" for name in names)

    @property
    def compared_columns(self) -> tuple[str, ...]:
        """The columns of the test images by which arms are compared."""
        names = (*self.shown, "kl", "rank", "kendall_tau")
        return tuple(f"test_{name}" for name in names)

    @property
    def summary_columns(self) -> tuple[str, ...]:
        """The columns of an arm's summary."""
        return (*self.compared_columns, "kl", "rank")

    def ema_column(self, split: str) -> str:
        """Return the column of the main metric of moving averages of weights."""
        return f"{split}_{self.main}_ema"

    @property
    def monitors(self) -> dict[str, bool]:
        """The metrics that may select an epoch, and whether more of it is better."""
        more = {f"val_{name}": True for name in self.held_out}
        less = {f"val_{term}": False for term in self.shared_terms}
        return more | less | {"val_kendall_tau": True, self.ema_column("val"): True}


CLASSIFICATION = TaskRecords(
    name="classification",
    hard_term="ce",
    training=("agreement", "train_acc"),
    held_out=("acc", "top5"),
    shown=("acc",),
    curves=("rank", "kl", "test_acc"),
)
EMBEDDING = TaskRecords(
    name="embedding",
    hard_term="triplet",
    training=("agreement",),
    held_out=("map_at_r", "r_precision", *RECALL_NAMES),
    shown=("map_at_r", "r_precision", "recall_at_1"),
    curves=("triplet", "rank", "kl", "test_map_at_r"),
)
DETECTION = TaskRecords(
    name="detection",
    hard_term="ce",
    training=("agreement",),
    held_out=("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar"),
    shown=("ap", "ap50", "ap75"),
    curves=("rank", "kl", "test_ap"),
    may_be_missing=("ap_small", "ap_medium", "ap_large"),
)
TASKS = {task.name: task for task in (CLASSIFICATION, EMBEDDING, DETECTION)}
# What a detector optimises beside its regions' cross-entropy, by its kind: terms of weight 1.
DETECTOR_TERMS = {
    "fasterrcnn": ("box", "rpn_objectness", "rpn_box"),
    "retinanet": ("box",),
    "fcos": ("box", "centerness"),
}


def detector_kind(model: str) -> str | None:
    """Return what kind of detector a model is by its name, such as ``fasterrcnn``, or None.

    Detectors are named ``fasterrcnn:BACKBONE``, ``torchvision:fasterrcnn_resnet50_fpn`` or
    ``detectron2:faster_rcnn_R_50_FPN``.
    """
    kind, _, rest = model.partition(":")
    if kind == "torchvision":
        kind = rest.partition("_")[0]
    elif kind == "detectron2":
        kind = "fasterrcnn"
    return kind if kind in DETECTOR_TERMS else None


def without_detector(model: str) -> str:
    """Return the backbone of ``fasterrcnn:BACKBONE``, and any other model's name as it is."""
    kind, _, backbone = model.partition(":")
    return backbone if kind in DETECTOR_TERMS else model


# A method of this name is its hard term alone: the student without distillation.
HARD_TERMS = tuple(dict.fromkeys(task.hard_term for task in TASKS.values()))


def task_of(columns: Iterable[str]) -> TaskRecords:
    """Return the task whose main metric is among the columns; else classification."""
    present = set(columns)
    named = (task for task in TASKS.values() if task.main_column in present)
    return next(named, CLASSIFICATION)
