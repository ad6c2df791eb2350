"""The events of a run, in order. The training yields them; others record and show them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rkkd_cli.config.arms import Arm
from rkkd_cli.tasks.average_precision import ImageBoxes

WeightsKind = Literal["best", "final", "ema"]


@dataclass(frozen=True)
class Note:
    """A sentence for the user."""

    text: str


@dataclass(frozen=True)
class Warned:
    """A sentence about what makes the run's numbers doubtful. The manifest keeps it."""

    text: str


@dataclass(frozen=True)
class Tick:
    """Nothing to show or record. The training may stop here."""


@dataclass(frozen=True)
class TeacherBatch(Tick):
    """The teacher has taken its step on a batch. Epoch and batch count from 1."""

    epoch: int
    epochs: int
    batch: int
    batches: int


@dataclass(frozen=True)
class DatasetReady:
    """The dataset is loaded. ``facts`` are for the manifest."""

    facts: dict[str, Any]


@dataclass(frozen=True)
class TeacherEpoch:
    """The teacher has trained for one more epoch. Only classifiers have an accuracy, in percent."""

    epoch: int
    epochs: int
    term: str
    loss: float
    train_acc: float | None


@dataclass(frozen=True)
class TeacherReady:
    """The teacher is trained or loaded, and verified. ``facts`` are for the manifest.

    ``cache`` is the folder that holds it under the key of the facts; None for a checkpoint file.
    """

    facts: dict[str, Any]
    cache: Path | None = None


@dataclass(frozen=True)
class StreamStarted:
    """The arms of a seed begin or resume.

    ``batches_done`` counts the batches of the epoch after ``epochs_done``. ``costs`` are the arms'
    parameters and multiply-adds, ``objectives`` their objectives in one line, for the manifest.
    """

    stream: str
    seed: int
    arms: tuple[Arm, ...]
    epochs: int
    batches: int
    epochs_done: int = 0
    batches_done: int = 0
    costs: Mapping[str, Any] = field(default_factory=dict)
    objectives: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchDone:
    """Every arm of the stream has taken its step on a batch. Epoch and batch count from 1."""

    stream: str
    epoch: int
    batch: int


@dataclass(frozen=True)
class EpochDone:
    """One row of ``metrics.csv`` for each arm that is still active; there may be none."""

    stream: str
    seed: int
    epoch: int
    rows: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class ArmStopped:
    """A term of an arm became NaN or infinite. ``step`` is None if a held-out split showed it."""

    stream: str
    arm: str
    seed: int
    epoch: int
    step: int | None
    term: str

    @property
    def sentence(self) -> str:
        """What happened, and what may help."""
        at = f"epoch {self.epoch}" + (f", step {self.step}" if self.step else "")
        return (
            f"arm {self.arm}, seed {self.seed} stopped at {at}: {self.term} is not finite; "
            "a lower learning rate or smaller weights may help"
        )


@dataclass(frozen=True)
class EndedEarly:
    """Early stopping ended an arm after ``epoch``.

    ``monitor`` is the metric of the validation split, ``best`` its best value, reached at
    ``best_epoch``.
    """

    stream: str
    arm: str
    seed: int
    epoch: int
    monitor: str
    best: float
    best_epoch: int

    @property
    def sentence(self) -> str:
        """What happened, and the value that decided it."""
        return (
            f"arm {self.arm}, seed {self.seed} ended early after epoch {self.epoch}: "
            f"{self.monitor} was best at epoch {self.best_epoch} ({self.best:.4f})"
        )


@dataclass(frozen=True)
class StudentWeights:
    """A student's weights, as the content of a safetensors file.

    ``kind``: after its ``best`` epoch so far, or after its last one, ``final``; ``ema``: the moving
    averages of the weights after the last one.
    """

    stream: str
    arm: str
    seed: int
    kind: WeightsKind
    content: bytes


@dataclass(frozen=True, eq=False)
class Retrieved:
    """What an arm finds, after its last epoch, for some test images: the images nearest to them.

    ``images`` (Q, 1 + K, C, H, W) uint8: a query, then its neighbours, nearest first; ``classes``
    (Q, 1 + K): the names of theirs.
    """

    stream: str
    arm: str
    seed: int
    epoch: int
    images: NDArray[np.uint8]
    classes: NDArray[np.str_]


class FoundInScene(NamedTuple):
    """A test image by its number, (H, W, 3) uint8; what the teacher and a student find in it."""

    number: int
    pixels: NDArray[np.uint8]
    teacher: ImageBoxes
    student: ImageBoxes


@dataclass(frozen=True, eq=False)
class Detected:
    """What an arm's detector finds, after its last epoch, in some test images."""

    stream: str
    arm: str
    seed: int
    epoch: int
    class_names: tuple[str, ...]
    scenes: tuple[FoundInScene, ...]


@dataclass(frozen=True)
class JobFailed:
    """The training of a stream was given up. Its rows and checkpoints stay."""

    stream: str
    seed: int
    arms: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Checkpoint:
    """The state of a stream, to be saved now: tensors and plain containers."""

    stream: str
    state: dict[str, Any]


Event = (
    Note
    | Warned
    | Tick
    | DatasetReady
    | TeacherEpoch
    | TeacherReady
    | StreamStarted
    | BatchDone
    | EpochDone
    | ArmStopped
    | EndedEarly
    | StudentWeights
    | Retrieved
    | Detected
    | JobFailed
    | Checkpoint
)
