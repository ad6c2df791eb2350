"""What a run has done before: the states of its streams, and what they were computed from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rkkd_cli.errors import UserError
from rkkd_cli.sweep.jobs import StreamGroup
from rkkd_cli.train.lockstep import check_state


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
        """Tell whether the stream has reached its last epoch, or has no arm left that could.

        Raises RunError for a state that is none of this stream's.
        """
        name = group.stream(seed)
        if name not in self.states:
            return False
        lockstep = self.states[name]["lockstep"]
        check_state(name, lockstep, [arm.name for arm in group.arms])
        return not (lockstep["arms"] and lockstep["epochs_done"] < group.experiment.training.epochs)

    def check_sources(self, group: StreamGroup, sources: Sources) -> None:
        """Raise UserError where images or teacher are not those that the group began with."""
        names = [group.stream(seed) for seed in group.seeds]
        for before in [self.states[name]["sources"] for name in names if name in self.states]:
            if before.get("dataset") != sources.dataset:
                raise UserError(
                    f"the images of {group.experiment.dataset.name} are not those that the run "
                    "began with; put them back, or start a new run"
                )
            if before.get("teacher") != sources.teacher:
                raise UserError(
                    f"the teacher {group.experiment.teacher.model} is not the one that the run "
                    "began with; put its checkpoint or the cache back, or start a new run"
                )
