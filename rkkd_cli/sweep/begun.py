"""What a run has done before: the states of its streams, and what they were computed from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rkkd_cli.errors import UserError
from rkkd_cli.sweep.jobs import StreamGroup


class Sources(NamedTuple):
    """Fingerprints of what a stream's numbers come from beside the experiment."""

    dataset: str
    teacher: str


class Begun:
    """The newest state of each stream that has one; empty for a new run.

    ``teachers`` is the folder in which the run keeps those that it began with.
    """

    def __init__(
        self,
        states: Mapping[str, Mapping[str, Any]] | None = None,
        teachers: Path | None = None,
    ) -> None:
        self.states, self.teachers = dict(states or {}), teachers

    def is_done(self, group: StreamGroup, seed: int) -> bool:
        """Tell whether the stream has reached its last epoch, or has no arm left that could."""
        state = self.states.get(group.stream(seed))
        if state is None:
            return False
        lockstep = state["lockstep"]
        left = lockstep["epochs_done"] < group.experiment.training.epochs
        return not (left and lockstep["arms"])

    def check_sources(self, group: StreamGroup, sources: Sources) -> None:
        """Raise UserError where images or teacher are not those that the group began with."""
        for seed in group.seeds:
            state = self.states.get(group.stream(seed))
            if state is None:
                continue
            before = Sources(**state["sources"])
            if before.dataset != sources.dataset:
                raise UserError(
                    f"the images of {group.experiment.dataset.name} are not those that the run "
                    "began with; put them back, or start a new run"
                )
            if before.teacher != sources.teacher:
                raise UserError(
                    f"the teacher {group.experiment.teacher.model} is not the one that the run "
                    "began with; put its checkpoint or the cache back, or start a new run"
                )
