"""A batch with all that the teacher says of it, for every arm of the stream.

Shapes: A arms, B batch, C classes.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from torch import Tensor

from rkkd_cli.data.stream import Batch
from rkkd_cli.methods import DistillInputs, Objective
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.models import Features


class TeacherOutputs(Protocol):
    """The teacher, or what knows what it says."""

    def outputs(self, images: Tensor, features: bool) -> Features:
        """Return the logits (B, C) of a batch, with all other features if asked for."""


class FeatureNeeds(NamedTuple):
    """What the methods of a stream's arms look at beside the logits of the weak view."""

    features: bool
    strong_view: bool


class TaughtBatch(NamedTuple):
    """What is taught in one step, and in which epoch (from 1) of how many."""

    batch: Batch
    teacher: Features
    strong: Features | None
    epoch: int
    epochs: int


class StepOutput(NamedTuple):
    """The logits (A, B, C) of arms before their step, and the raw values of their own terms."""

    logits: Tensor
    own: list[dict[str, Tensor]]


def feature_needs(objectives: Iterable[Objective]) -> FeatureNeeds:
    """Return what any of the objectives asks for."""
    methods = [one.method for one in objectives]
    return FeatureNeeds(
        any(one.needs_features for one in methods), any(one.needs_strong_view for one in methods)
    )


def inputs_of_logits(logits: Tensor, taught: TaughtBatch) -> DistillInputs:
    """Return what a method sees of a student of which only the logits (B, C) are known."""
    batch = taught.batch
    return DistillInputs(
        logits_only(logits),
        taught.teacher,
        batch.labels,
        batch.indices,
        taught.epoch,
        taught.epochs,
    )


def run_teacher(
    teacher: TeacherOutputs, batch: Batch, needs: FeatureNeeds, epoch: int = 1, epochs: int = 1
) -> TaughtBatch:
    """Let the teacher see the batch once, and its strong view if it has one."""
    strong = None if batch.strong is None else teacher.outputs(batch.strong, needs.features)
    return TaughtBatch(batch, teacher.outputs(batch.images, needs.features), strong, epoch, epochs)
