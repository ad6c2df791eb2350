"""What a run has done before: the states of its streams, and what they were computed from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rkkd_cli.config.experiment import Dataset, Experiment, Teacher
from rkkd_cli.errors import UserError
from rkkd_cli.sweep.jobs import StreamGroup, stream_groups
from rkkd_cli.train.lockstep import check_state


class Begun:
    """The newest state of each stream that has one; empty for a new run.

    ``teachers`` is the folder in which the run keeps those that it began with. Raises RunError for
    a state that its stream cannot have had.
    """

    def __init__(
        self,
        experiment: Experiment,
        states: Mapping[str, Mapping[str, Any]] | None = None,
        teachers: Path | None = None,
    ) -> None:
        self.experiment = experiment
        self.states, self.teachers = dict(states or {}), teachers
        for group in stream_groups(experiment):
            for name in self._begun_streams(group):
                arms = [arm.name for arm in group.arms]
                check_state(name, self.states[name]["lockstep"], arms)

    def is_done(self, group: StreamGroup, seed: int) -> bool:
        """Tell whether the stream has reached its last epoch, or has no arm left that could."""
        name = group.stream(seed)
        if name not in self.states:
            return False
        lockstep = self.states[name]["lockstep"]
        return not (lockstep["arms"] and lockstep["epochs_done"] < group.experiment.training.epochs)

    def check_dataset(self, group: StreamGroup, dataset: str) -> None:
        """Raise UserError where the images are not those that the run began with."""
        begun_with = {
            self.states[name]["sources"].get("dataset")
            for other in stream_groups(self.experiment)
            for name in self._begun_streams(other)
            if other.experiment.dataset == group.experiment.dataset
        }
        if begun_with - {dataset}:
            raise UserError(
                f"the images of {group.experiment.dataset.name} are not those that the run began "
                "with; put them back, or start a new run"
            )

    def check_teacher(self, group: StreamGroup, teacher: str) -> None:
        """Raise UserError where the teacher is not the one that the run began with."""
        begun_with = {
            self.states[name]["sources"].get("teacher")
            for other in stream_groups(self.experiment)
            for name in self._begun_streams(other)
            if _teacher_of(other) == _teacher_of(group)
        }
        if begun_with - {teacher}:
            raise UserError(
                f"the teacher {group.experiment.teacher.model} is not the one that the run began "
                "with; put its checkpoint or the cache back, or start a new run"
            )

    def _begun_streams(self, group: StreamGroup) -> list[str]:
        return [name for name in map(group.stream, group.seeds) if name in self.states]


def _teacher_of(group: StreamGroup) -> tuple[Dataset, Teacher, str]:
    """Return what determines a group's teacher."""
    experiment = group.experiment
    return experiment.dataset, experiment.teacher, experiment.precision
