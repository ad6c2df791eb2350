"""A batch with all that the teacher says of it, for every arm of the stream.

Shapes: A arms, B batch, C classes.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from torch import Tensor

from rkkd_cli.data.stream import Batch
from rkkd_cli.methods import Objective, Seen
from rkkd_cli.methods.seen import of_logits
from rkkd_cli.models import Features


class Seer(Protocol):
    """The teacher, or what knows what it says."""

    def see(self, images: Tensor, features: bool) -> Features:
        """Return the logits (B, C) of a batch, with all other features if asked for."""


class Needs(NamedTuple):
    """What the methods of a stream's arms look at beside the logits of the weak view."""

    features: bool
    strong_view: bool


class Lesson(NamedTuple):
    """What is taught in one step, and in which epoch (from 1) of how many."""

    batch: Batch
    teacher: Features
    strong: Features | None
    epoch: int
    epochs: int


class Stepped(NamedTuple):
    """The logits (A, B, C) of arms before their step, and the raw values of their own terms."""

    logits: Tensor
    own: list[dict[str, Tensor]]


def needs_of(objectives: Iterable[Objective]) -> Needs:
    """Return what any of the objectives asks for."""
    methods = [one.method for one in objectives]
    return Needs(
        any(one.needs_features for one in methods), any(one.needs_strong_view for one in methods)
    )


def seen_of_logits(logits: Tensor, lesson: Lesson) -> Seen:
    """Return what a method sees of a student of which only the logits (B, C) are known."""
    batch = lesson.batch
    return Seen(
        of_logits(logits), lesson.teacher, batch.labels, batch.places, lesson.epoch, lesson.epochs
    )


def teach(teacher: Seer, batch: Batch, needs: Needs, epoch: int = 1, epochs: int = 1) -> Lesson:
    """Let the teacher see the batch once, and its strong view if it has one."""
    strong = None if batch.strong is None else teacher.see(batch.strong, needs.features)
    return Lesson(batch, teacher.see(batch.images, needs.features), strong, epoch, epochs)
