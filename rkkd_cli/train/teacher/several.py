"""Several teachers of the same images, which see each batch once."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.model_input import ModelInput
from rkkd_cli.data.on_device import AnyImages
from rkkd_cli.data.stream import DeviceImages
from rkkd_cli.models import Features
from rkkd_cli.tasks.task import Task
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.metrics.evaluate import HeldOutSplit, TaughtSplit
from rkkd_cli.train.teacher.model import Teacher


@dataclass(frozen=True)
class TeacherSet:
    """Teachers by name, with the interface of one. Its outputs are those of each by name."""

    members: Mapping[str, Teacher]

    @property
    def first(self) -> Teacher:
        """The first teacher."""
        return next(iter(self.members.values()))

    @property
    def device(self) -> torch.device:
        """The device of all teachers."""
        return self.first.device

    @property
    def precision(self) -> str:
        """The precision of all teachers."""
        return self.first.precision

    @property
    def task(self) -> Task:
        """The task of all teachers."""
        return self.first.task

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.first.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes of a detector; several teachers are none."""
        return ()

    @property
    def input(self) -> ModelInput:
        """How the first teacher takes the images of the stream, which are the same for all."""
        return self.first.input

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the names and of all weights."""
        return joint_fingerprint({name: one.fingerprint for name, one in self.members.items()})

    def outputs(self, images: Tensor, features: bool) -> dict[str, Features]:
        """Return each teacher's logits (B, C), and all other features if they are requested."""
        return {name: one.outputs(images, features) for name, one in self.members.items()}

    def taught_split(
        self, split: AnyImages, batches: int = 0, process_group: ProcessGroup = SINGLE_PROCESS
    ) -> HeldOutSplit:
        """Return the split with each teacher's outputs on it; see TaughtSplit for the others."""
        assert isinstance(split, DeviceImages)
        outputs = {name: one.all_outputs(split) for name, one in self.members.items()}
        return TaughtSplit(self.first.task, split, outputs, batches, process_group)


Teachers = Teacher | TeacherSet


def teachers_by_name(teachers: Mapping[str, Teacher]) -> Teachers:
    """Return the only teacher, or the set of several."""
    return TeacherSet(teachers) if len(teachers) > 1 else next(iter(teachers.values()))


def joint_fingerprint(fingerprints: Mapping[str, str]) -> str:
    """Return the fingerprint of the only teacher, or that of several from theirs by name."""
    if len(fingerprints) == 1:
        return next(iter(fingerprints.values()))
    parts = [f"{name} {fingerprint}" for name, fingerprint in fingerprints.items()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def teacher_of(experiment: Experiment, teachers: Teachers) -> Teacher:
    """Return the teacher that an arm learns from; the first of several where it is their mean."""
    if isinstance(teachers, Teacher):
        return teachers
    target = experiment.method.teacher
    if isinstance(target, str) and target in teachers.members:
        return teachers.members[target]
    return teachers.first
