"""Jobs: a seed's stream with the arms that train on it in lockstep."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rkkd_cli.config.arms import Arm, resolve_arms
from rkkd_cli.config.dataset import DatasetConfig
from rkkd_cli.config.experiment import Experiment, TeacherConfig

Cell = tuple[str, int]  # an arm's name and a seed


class Job(NamedTuple):
    """What is trained in one place: the arms of a stream.

    ``name`` is that of the stream and of its folder. ``number`` counts the streams of a run in the
    order in which they were planned: of two that had the same cell, the later one has it.
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


class StreamGroup(NamedTuple):
    """Arms that can see the same batches and the same teacher, for each of ``seeds``."""

    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]

    @property
    def experiment(self) -> Experiment:
        """What the arms share: dataset, teacher, batch size, epochs, precision."""
        return self.arms[0].experiment


def stream_groups(experiment: Experiment) -> tuple[StreamGroup, ...]:
    """Return the experiment's arms grouped by stream, in the order of their first arm."""
    arms = grouped(resolve_arms(experiment))
    return tuple(StreamGroup(one, experiment.seeds) for one in arms)


def grouped(arms: Iterable[Arm]) -> list[tuple[Arm, ...]]:
    """Return the arms that can share a stream, in the order of their first one."""
    groups: dict[str, list[Arm]] = {}
    for arm in arms:
        groups.setdefault(_stream_key(arm.experiment), []).append(arm)
    return [tuple(one) for one in groups.values()]


def evenly(arms: Sequence[Arm], most: int) -> list[tuple[Arm, ...]]:
    """Return the arms in as few parts of nearly the same size as have at most ``most`` each."""
    parts = -(-len(arms) // most)
    ends = [len(arms) * (n + 1) // parts for n in range(parts)]
    return [tuple(arms[a:b]) for a, b in zip([0, *ends], ends, strict=False)]


def teacher_of(experiment: Experiment) -> tuple[DatasetConfig, TeacherConfig, str]:
    """Return what determines the images and the teacher of an experiment."""
    return experiment.dataset, experiment.teacher, experiment.precision


def _stream_key(experiment: Experiment) -> str:
    training = experiment.training
    return repr((*teacher_of(experiment), training.batch_size, training.epochs))
