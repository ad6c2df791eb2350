"""What a task records: its hard term and its metrics, which are columns of metrics.csv."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class TaskRecords:
    """The columns that depend on the task.

    ``hard_term`` is the term of the labels alone, in training and on held-out splits.
    ``training``: the shares of images, in percent, that are counted in training.
    ``held_out``: the metrics of a held-out split, in percent, more is better; the first of them is
    the main one, by which epochs, arms and cells are compared.
    """

    name: str
    hard_term: str
    training: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def main(self) -> str:
        """The metric that counts, without its split."""
        return self.held_out[0]

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

    def ema_column(self, split: str) -> str:
        """Return the column of the main metric of moving averages of weights."""
        return f"{split}_{self.main}_ema"

    @property
    def monitors(self) -> dict[str, bool]:
        """The metrics that may select an epoch, and whether more of it is better."""
        more = {f"val_{name}": True for name in self.held_out}
        less = {f"val_{term}": False for term in self.shared_terms}
        return more | less | {"val_kendall_tau": True, self.ema_column("val"): True}


CLASSIFICATION = TaskRecords("classification", "ce", ("agreement", "train_acc"), ("acc", "top5"))
RECALLS = (1, 2, 4, 8)
EMBEDDING = TaskRecords(
    "embedding",
    "triplet",
    ("agreement",),
    ("map_at_r", "r_precision", *(f"recall_at_{count}" for count in RECALLS)),
)
TASKS = {task.name: task for task in (CLASSIFICATION, EMBEDDING)}


def task_of(columns: Iterable[str]) -> TaskRecords | None:
    """Return the task whose columns a file of metrics has, if it is one."""
    present = set(columns)
    return next((task for task in TASKS.values() if task.main_column in present), None)
