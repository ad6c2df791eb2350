"""What jobs train on: the images, the teacher, and its logits on the held-out splits."""

from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.detection.dataset import DetectionDataset
from rkkd_cli.data.on_device import AnyDataset, AnySplit, split_on_device
from rkkd_cli.data.stream import Shard
from rkkd_cli.data.streaming.split import StreamedSplit
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.sweep.datasets import load
from rkkd_cli.sweep.recording.run_state import Origin
from rkkd_cli.sweep.teacher_fit import with_keys_of
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.events import DatasetReady, Event, Note, TeacherReady
from rkkd_cli.train.metrics.evaluate import HeldOutSplit
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.teacher.obtain import obtain_teacher
from rkkd_cli.train.teacher.several import Teachers, teachers_by_name


class Sources(NamedTuple):
    """A dataset and its teacher, or several, on a device, with the held-out splits."""

    dataset: AnyDataset
    teacher: Teachers
    held_out: dict[str, HeldOutSplit]

    @property
    def fingerprints(self) -> dict[str, str]:
        """The hashes that identify the images and the teacher."""
        return {"dataset": self.dataset.fingerprint, "teacher": self.teacher.fingerprint}


def make_sources(
    dataset: AnyDataset, teacher: Teachers, process_group: ProcessGroup = SINGLE_PROCESS
) -> Sources:
    """Return the sources, with the teacher's outputs on this rank's shard of the held-out splits.

    Where their images are compared with each other, and of detectors, whose average precision is
    that of a whole split, every rank has the whole splits.

    Raises UserError for a split with fewer images than there are ranks.
    """
    if teacher.task.compares_images or teacher.task.rows_are_regions:
        process_group = SINGLE_PROCESS
    splits = {"test": dataset.test} | ({"val": dataset.val} if dataset.val else {})
    held_out = {}
    for name, split in splits.items():
        shard, batches = _shard_split(name, split, process_group, teacher.task.evaluation_batch)
        images = split_on_device(shard, dataset, teacher.device)
        held_out[name] = teacher.taught_split(images, batches, process_group)
    return Sources(dataset, teacher, held_out)


def _shard_split(
    name: str, split: AnySplit, process_group: ProcessGroup, batch_size: int
) -> tuple[AnySplit, int]:
    """Return this rank's shard of a split, and the number of batches of the largest shard."""
    ranks, images = process_group.world_size, len(split)
    if ranks == 1:
        return split, -(-images // batch_size)
    if images < ranks:
        raise UserError(
            f"the {name} split has fewer images ({images}) than there are ranks ({ranks}); start "
            "fewer, or take more images"
        )
    local, largest = process_group.shard.within(0, images), Shard(0, ranks).within(0, images)
    shard = split.take(np.arange(local.start, local.stop))
    return shard, -(-largest.stop // batch_size)


def open_sources(
    experiment: Experiment, runtime: Runtime, origin: Origin
) -> Generator[Event, None, Sources]:
    """Return the experiment's sources; yields what happens until they are there.

    Raises UserError if they are not those that the run began with.
    """
    dataset = yield from _read_same_dataset(experiment, runtime)
    origin.check_dataset(experiment, dataset.fingerprint)
    yield DatasetReady(dataset_facts(dataset))
    teacher = yield from obtain_teachers(experiment, dataset, runtime, origin)
    return make_sources(dataset, teacher, runtime.process_group)


def obtain_teachers(
    experiment: Experiment, dataset: AnyDataset, runtime: Runtime, origin: Origin
) -> Generator[Event, None, Teachers]:
    """Return the experiment's teacher, or all of several; yields their training.

    Raises UserError if they are not those that the run began with.
    """
    obtained = {}
    for name in experiment.named_teachers:
        taught = experiment.taught_by(name)
        teacher, ready = yield from obtain_teacher(taught, dataset, runtime, origin.teachers)
        obtained[name] = teacher, named(ready, experiment, name)
    teachers = teachers_by_name({name: teacher for name, (teacher, _) in obtained.items()})
    origin.check_teacher(experiment, teachers.fingerprint)
    yield from (ready for _, ready in obtained.values())
    return teachers


def named(ready: TeacherReady, experiment: Experiment, name: str) -> TeacherReady:
    """Return the event with the name of one of several teachers in its facts and their notes."""
    if not experiment.teachers:
        return ready
    notes = [f"{name}: {with_keys_of(name, note)}" for note in ready.facts["notes"]]
    return replace(ready, facts={"name": name, **ready.facts, "notes": notes})


def prepare_teacher(experiment: Experiment, runtime: Runtime) -> Iterator[Event]:
    """Train and cache the experiment's teachers, unless they are cached."""
    dataset = yield from _read_same_dataset(experiment, runtime)
    yield DatasetReady(dataset_facts(dataset))
    yield from obtain_teachers(experiment, dataset, runtime, Origin())


def _read_same_dataset(
    experiment: Experiment, runtime: Runtime
) -> Generator[Event, None, AnyDataset]:
    """Return the dataset. The other ranks wait until rank 0 has read it: it may download it.

    Raises RunError on a rank that reads other images than rank 0.
    """
    process_group = runtime.process_group
    if not process_group.is_first:
        expected = process_group.broadcast("")
    dataset = yield from read_dataset(experiment, runtime.cache)
    if process_group.is_first:
        expected = process_group.broadcast(dataset.fingerprint)
    if expected != dataset.fingerprint:
        raise RunError(
            f"rank {process_group.rank} reads other images of {experiment.dataset.name} than rank "
            "0; put the same ones on every node"
        )
    return dataset


def read_dataset(experiment: Experiment, cache: Path) -> Generator[Event, None, AnyDataset]:
    """Return the dataset; yields notes that it is being read, and whether it is streamed."""
    yield Note(f"reading the dataset {experiment.dataset.name}")
    dataset = load(experiment, cache)
    yield from map(Note, dataset.notes)
    if isinstance(dataset.train, StreamedSplit):
        processes = dataset.train.loader.workers
        by = {0: "this process", 1: "1 process"}.get(processes, f"{processes} processes")
        yield Note(
            f"its {len(dataset.train):,} training images are streamed from the disk, in "
            f"{dataset.crop} crops of {dataset.train.size}×{dataset.train.size}, decoded by {by}"
        )
    return dataset


def dataset_facts(dataset: AnyDataset) -> dict[str, Any]:
    """Return the manifest's entry of a dataset."""
    if isinstance(dataset, DetectionDataset):
        own: dict[str, Any] = {"min_size": list(dataset.min_size), "max_size": dataset.max_size}
    else:
        crop = {"crop": dataset.crop, "crop_padding": dataset.crop_padding}
        own = {"image_shape": list(dataset.train.shape), **crop, **dataset.augment.used}
    return {
        "name": dataset.name,
        "train_images": len(dataset.train),
        "val_images": len(dataset.val) if dataset.val else 0,
        "test_images": len(dataset.test),
        "classes": len(dataset.classes),
        "class_names": list(dataset.classes),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "streamed": dataset.is_streamed,
        "flip": dataset.flip,
        **own,
        "fingerprint": dataset.fingerprint,
        "notes": list(dataset.notes),
    }
