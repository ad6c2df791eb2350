"""Which arms share a stream."""

from typing import NamedTuple

from rkkd_cli.config.arms import Arm, resolve_arms
from rkkd_cli.config.experiment import Experiment


class StreamGroup(NamedTuple):
    """Arms that see the same batches and the same teacher, for each of ``seeds``."""

    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]

    @property
    def experiment(self) -> Experiment:
        """What the arms share: dataset, teacher, batch size, epochs, precision."""
        return self.arms[0].experiment

    @property
    def name(self) -> str:
        """The group's name: its first arm, which is in no other group."""
        return self.arms[0].name

    def stream(self, seed: int) -> str:
        """Return the name of the stream of one seed; it is a folder's name too."""
        return f"seed-{seed}-{self.name}"


def stream_groups(experiment: Experiment) -> tuple[StreamGroup, ...]:
    """Return the experiment's arms grouped by stream, in the order of their first arm."""
    groups: dict[str, list[Arm]] = {}
    for arm in resolve_arms(experiment):
        groups.setdefault(_stream_key(arm.experiment), []).append(arm)
    return tuple(StreamGroup(tuple(arms), experiment.seeds) for arms in groups.values())


def stream_names(experiment: Experiment) -> list[str]:
    """Return the names of all streams, in the order in which they are run."""
    groups = stream_groups(experiment)
    return [group.stream(seed) for group in groups for seed in group.seeds]


def _stream_key(experiment: Experiment) -> str:
    training = experiment.training
    shared = (experiment.dataset, experiment.teacher, training.batch_size, training.epochs)
    return repr((*shared, experiment.precision))
