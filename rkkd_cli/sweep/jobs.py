"""Jobs: a seed's stream with the arms that train on it in lockstep."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.dataset import DatasetConfig
from rkkd_cli.config.experiment import Experiment, TeacherConfig

Cell = tuple[str, int]  # an arm's name and a seed


class Job(NamedTuple):
    """The arms of a stream, which train in one place.

    ``name`` is the name of the stream and of its checkpoint folder. ``number`` counts the streams
    of a run in the order of planning: if two have had a cell, it belongs to the later one.
    ``is_retry``: the cells have diverged before and start again.
    """

    name: str
    seed: int
    arms: tuple[Arm, ...]
    number: int
    is_retry: bool = False

    @property
    def experiment(self) -> Experiment:
        """What the arms share: dataset, teacher, batch size, epochs, precision."""
        return self.arms[0].experiment

    @property
    def cells(self) -> list[Cell]:
        """The job's arms with its seed."""
        return [(arm.name, self.seed) for arm in self.arms]


def group_by_stream(arms: Iterable[Arm]) -> list[tuple[Arm, ...]]:
    """Return the groups of arms that can share a stream, in the order of their first arms."""
    groups: dict[object, list[Arm]] = {}
    for arm in arms:
        training = arm.experiment.training
        batches = (
            training.batch_size,
            training.last_batch,
            training.per_class,
            training.batches_per_epoch,
        )
        key = sources_key(arm.experiment), batches, training.epochs
        groups.setdefault(key, []).append(arm)
    return [tuple(group) for group in groups.values()]


def count_jobs(experiment: Experiment) -> int:
    """Return how many jobs a run has in which each stream is one job."""
    return len(group_by_stream(experiment.resolved_arms)) * len(experiment.seeds)


def split_evenly(arms: Sequence[Arm], max_arms: int) -> list[tuple[Arm, ...]]:
    """Return the arms in as few parts as possible, of nearly equal size, at most ``max_arms``."""
    parts = -(-len(arms) // max_arms)
    return [tuple(arms[i] for i in part) for part in np.array_split(range(len(arms)), parts)]


class SourcesKey(NamedTuple):
    """What determines the images and the teachers of an experiment, which have names."""

    dataset: DatasetConfig
    teachers: tuple[tuple[str, TeacherConfig], ...]
    precision: str


def sources_key(experiment: Experiment) -> SourcesKey:
    """Return what determines the experiment's images and its teachers."""
    teachers = tuple(experiment.named_teachers.items())
    return SourcesKey(experiment.dataset, teachers, experiment.precision)
